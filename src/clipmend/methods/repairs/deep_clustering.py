"""Deep clustering, a part of CleanCLIP: images are classified by the clusters of their embeddings.

Caron et al. 2018, arXiv:1807.05520, as arXiv:2311.14948 adds it to CleanCLIP.
"""

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

# Of k-means, and the standard deviation of a new head's weights: as in arXiv:2311.14948's code.
_ITERATIONS = 20
_SPREAD = 0.01


class DeepClustering(nn.Module):
    """Minimizes ``loss`` + ``weight`` times the cross-entropy of the images' cluster ids.

    A linear head on the image embeddings predicts the ids. The images are clustered again before
    each epoch, and the head starts anew, because a cluster id has no meaning in another clustering.

    Differs from the paper: its k-means is faiss', which normalizes the centroids in each iteration;
    here only the embeddings are normalized. AdamW's moments of the old head's gradients stay when
    the head starts anew.

    Args:
        images: image i belongs to pair i of the task.
    """

    cluster: Int[Tensor, " samples"]

    def __init__(
        self, loss: Loss, images: Images, *, clusters: int, dim: int, weight: float
    ) -> None:
        super().__init__()
        self._loss, self._images, self._clusters, self._weight = loss, images, clusters, weight
        # Flat, because the loop decays every tensor of two axes, and the paper's head has no decay.
        self.slopes = nn.Parameter(torch.zeros(clusters * dim))
        self.biases = nn.Parameter(torch.zeros(clusters))
        self.register_buffer("cluster", torch.zeros(len(images), dtype=torch.long))

    def before_epoch(self, model: Clip, epoch: int, generator: torch.Generator) -> None:
        """Cluster the images' current embeddings and draw a new head."""
        embeds = embed_images(model, self._images)
        seed = int(torch.randint(2**31, (), generator=generator))
        self.cluster.copy_(clusters_of(embeds, self._clusters, seed=seed))
        with torch.no_grad():
            self.slopes.copy_(_SPREAD * torch.randn(len(self.slopes), generator=generator))
            self.biases.zero_()

    def forward(self, model: Clip, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
        """Return the loss of the batch."""
        loss = self._loss(model, batch, generator)
        embeds = model.encode_image(batch.images)
        return loss + self._weight * self.cross_entropy(embeds, batch.rows)

    def cross_entropy(
        self, embeds: Float[Tensor, "batch dim"], rows: Int[Tensor, " batch"]
    ) -> Float[Tensor, ""]:
        """Return the cross-entropy of the head's predictions for the images at ``rows``."""
        logits = F.linear(embeds, self.slopes.view(self._clusters, -1), self.biases)
        return F.cross_entropy(logits, self.cluster[rows.to(self.cluster.device)])


def clustered(task: Task, model: Clip, clusters: int, weight: float) -> Task:
    """Return the task with deep clustering of its images added to its loss.

    Raises:
        TrainingError: there are fewer images than clusters.
    """
    if clusters > len(task.pairs):
        raise TrainingError(
            f"cleanclip cannot make {clusters} clusters of {len(task.pairs)} images; lower "
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
