"""Deep clustering: images are told apart by clusters of their own embeddings (arXiv:1807.05520)."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from sklearn.cluster import KMeans
from torch import Tensor, nn

from clipmend.data.streaming import Images
from clipmend.errors import TrainingError
from clipmend.model.clip import Clip, embed_images
from clipmend.model.fit import Batch, Loss, Task

_ITERATIONS = 20  # of k-means, and the spread of a fresh head: arXiv:2311.14948's code
_SPREAD = 0.01


class DeepClustering(nn.Module):
    """Minimizes ``loss`` + ``weight`` times the cross-entropy of the images' cluster ids.

    A linear head on the image embeddings tells the ids. Before each epoch the images are clustered
    anew, and a fresh head is drawn, as a cluster's id means nothing to another clustering.

    Differs from the paper: its k-means is faiss', whose centroids are normalized again in each
    iteration; here the embeddings alone are. What AdamW remembers of the last head's
    gradients it keeps for the next.

    Args:
        images: row i is that of the pair i that is fitted.
    """

    cluster: Int[Tensor, " samples"]

    def __init__(
        self,
        loss: Loss,
        images: Images,
        *,
        clusters: int,
        dim: int,
        weight: float,
    ) -> None:
        super().__init__()
        self._loss = loss
        self._images = images
        self._clusters = clusters
        self._weight = weight
        # Flat, as the loop decays matrices alone and the paper does not decay its head.
        self.slopes = nn.Parameter(torch.zeros(clusters * dim))
        self.biases = nn.Parameter(torch.zeros(clusters))
        self.register_buffer("cluster", torch.zeros(len(images), dtype=torch.long))

    def before_epoch(self, model: Clip, epoch: int, generator: torch.Generator) -> None:  # noqa: ARG002
        """Cluster the images as the model sees them now; draw a fresh head."""
        embeds = embed_images(model, self._images)
        seed = int(torch.randint(2**31, (), generator=generator))
        self.cluster.copy_(clusters_of(embeds, self._clusters, seed=seed))
        with torch.no_grad():
            drawn = torch.randn(len(self.slopes), generator=generator)
            self.slopes.copy_(_SPREAD * drawn)
            self.biases.zero_()

    def forward(self, model: Clip, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
        """Return the loss of the batch."""
        loss = self._loss(model, batch, generator)
        embeds = model.encode_image(batch.images)
        return loss + self._weight * self.cross_entropy(embeds, batch.rows)

    def cross_entropy(
        self, embeds: Float[Tensor, "batch dim"], rows: Int[Tensor, " batch"]
    ) -> Float[Tensor, ""]:
        """Return how badly the head tells the clusters of the images at ``rows``."""
        logits = F.linear(embeds, self.slopes.view(self._clusters, -1), self.biases)
        return F.cross_entropy(logits, self.cluster[rows.to(self.cluster.device)])


def clustered(task: Task, model: Clip, clusters: int, weight: float) -> Task:
    """Return the task with deep clustering of its images added to its loss.

    Raises:
        TrainingError: there are fewer images than clusters.
    """
    if clusters > len(task.pairs):
        raise TrainingError(
            f"{len(task.pairs)} images cannot be told apart into {clusters} clusters; lower "
            "`clusters`."
        )
    dim = model.embed_dim
    added = DeepClustering(task.loss, task.pairs.images, clusters=clusters, dim=dim, weight=weight)
    return replace(task, loss=added.to(model.device), before_epoch=added.before_epoch)


def clusters_of(
    embeds: Float[Tensor, "samples dim"], clusters: int, *, seed: int
) -> Int[Tensor, " samples"]:
    """Return each row's cluster by k-means; rows must be L2-normalized."""
    means = KMeans(clusters, n_init=1, max_iter=_ITERATIONS, random_state=seed)
    return torch.from_numpy(means.fit_predict(embeds.double().numpy())).long()
