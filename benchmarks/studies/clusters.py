"""How well features tell classes apart without labels: t-SNE, and how clusters in it agree with the classes."""

from __future__ import annotations

import dataclasses

import numpy as np
from sklearn.cluster import DBSCAN, KMeans
from sklearn.manifold import TSNE
from sklearn.metrics import adjusted_rand_score
from sklearn.neighbors import NearestNeighbors

MIN_SAMPLES = (5, 10, 20)
KNEE_FACTORS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.4)
"""Radii of DBSCAN that are tried, as factors of the distance at the knee."""


@dataclasses.dataclass(frozen=True)
class Embedding:
    """Samples in the plane, and the clusters that two methods find there.

    Args:
        points: float ``(samples, 2)``.
        kmeans: cluster of each sample, int ``(samples,)``.
        dbscan: the same; -1: noise, which counts as a cluster.
        kmeans_ari: adjusted Rand index of ``kmeans`` against the classes.
        dbscan_ari: of ``dbscan``, the best over :data:`MIN_SAMPLES` and :data:`KNEE_FACTORS`.
        eps: radius of the best one.
        min_samples: neighbours of its core samples.
    """

    points: np.ndarray
    kmeans: np.ndarray
    dbscan: np.ndarray
    kmeans_ari: float
    dbscan_ari: float
    eps: float
    min_samples: int


def knee(distances: np.ndarray) -> float:
    """Return the value of a curve, in ascending order, that lies farthest below its chord.

    Example:
        >>> float(knee(np.array([0.0, 1.0, 2.0, 10.0])))
        2.0
    """
    values = np.sort(distances)
    chord = np.linspace(values[0], values[-1], len(values))
    return values[np.argmax(chord - values)]


def embed(features: np.ndarray, labels: np.ndarray, seed: int = 0) -> Embedding:
    """Embed features by t-SNE, and cluster the points by k-means and DBSCAN.

    K-means has as many clusters as there are classes. Radius and neighbours of DBSCAN are those of the largest adjusted
    Rand index, so that its index says how well it can do, not how well it does without labels.

    Args:
        features: ``(samples, features)``.
        labels: class of each sample, ``(samples,)``.
        seed: of t-SNE and k-means.

    Reference:
        van der Maaten & Hinton 2008, "Visualizing data using t-SNE"; Hubert & Arabie 1985, "Comparing partitions".
    """
    points = TSNE(random_state=seed).fit_transform(features.astype(np.float64))
    kmeans = KMeans(len(np.unique(labels)), n_init=10, random_state=seed).fit_predict(points)
    found = []
    for min_samples in MIN_SAMPLES:
        distances = NearestNeighbors(n_neighbors=min_samples).fit(points).kneighbors(points)[0][:, -1]
        for factor in KNEE_FACTORS:
            eps = factor * float(knee(distances))
            clusters = DBSCAN(eps=eps, min_samples=min_samples).fit_predict(points)
            found.append((float(adjusted_rand_score(labels, clusters)), eps, min_samples, clusters))
    ari, eps, min_samples, dbscan = max(found, key=lambda row: row[0])
    return Embedding(points, kmeans, dbscan, float(adjusted_rand_score(labels, kmeans)), ari, eps, min_samples)
