/* Prints what `cpuid` answers: lines of "leaf subleaf eax ebx ecx edx" in hexadecimal.

   Under an emulator, such as `qemu-x86_64 -cpu Haswell`, this is the table of that processor. */

#include <cpuid.h>
#include <stdio.h>

#define LEAVES 0x23
#define SUBLEAVES 6

static void ask(unsigned first)
{
    unsigned last, a, b, c, d;
    __cpuid(first, last, b, c, d);
    for (unsigned leaf = first; leaf <= last && leaf < first + LEAVES; leaf++)
        for (unsigned subleaf = 0; subleaf < SUBLEAVES; subleaf++) {
            __cpuid_count(leaf, subleaf, a, b, c, d);
            printf("%x %x %x %x %x %x\n", leaf, subleaf, a, b, c, d);
        }
}

int main(void)
{
    ask(0);
    ask(0x80000000);
    return 0;
}
