"""
Colours of an image
===================

A picture is a quarter of a million rows of red, green and blue. A mixture sorts them into a few colours that each have
a spread of their own: wide for leaves in sun and shade, narrow for the sky. K-means, which takes all colours for
equally wide, cuts differently.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.cluster import KMeans
from sklearn.datasets import load_sample_image

from emkit import EMGaussianMixture

picture = load_sample_image("china.jpg")
pixels = picture.reshape(-1, 3) / 255

# %%
# Fit
# ---
# No pixel is left out: a step over a quarter of a million rows is cheap. A photograph has many optima that look alike;
# of five seeds this one led highest (compare ``log_likelihood_``).

mixture = EMGaussianMixture(8, random_state=2).fit(pixels)
print(f"{len(pixels)} pixels: {mixture.status_} after {mixture.n_iter_} steps, at most {mixture.gap_:.1e} nats to gain")
print("share   red green blue   spread")
for weight, mean, covariance in zip(mixture.weights_, mixture.means_, mixture.covariances_, strict=True):
    red, green, blue = (255 * mean).round().astype(int)
    print(f"{weight:>5.0%} {red:>5} {green:>5} {blue:>4} {255 * np.sqrt(np.trace(covariance)):>8.0f}")

# %%
# Compare
# -------
# Each pixel is painted in the mean of its group.


def paint(labels):
    """Give every pixel the mean colour of its group."""
    totals = [np.bincount(labels, pixels[:, channel]) for channel in range(3)]
    means = np.stack(totals, axis=1) / np.bincount(labels)[:, None]
    return means[labels].reshape(picture.shape)


kmeans = KMeans(8, random_state=0).fit(pixels[::10])
figure, axes = plt.subplots(1, 3, figsize=(13, 3.1), layout="constrained")
axes[0].imshow(picture)
axes[0].set_title("the picture")
axes[1].imshow(paint(mixture.predict(pixels)))
axes[1].set_title("mixture, 8 colours")
axes[2].imshow(paint(kmeans.predict(pixels)))
axes[2].set_title("k-means, 8 colours")
for ax in axes:
    ax.set_axis_off()
plt.show()

# %%
# The mixture gives leaves and roofs colours of their own, since a group may be long: from light to dark green. For
# k-means dark leaves and dark wood are one colour, because both are dark. It is the better choice if the aim is to
# paint with eight colours and small errors; the mixture is, if the aim is to tell things apart.
#
# Doubt
# -----
# A mixture also says how sure it is. Here is the probability of the most likely group, and a mask of one group: what
# one would cut out.

sure = mixture.predict_proba(pixels).max(axis=1).reshape(picture.shape[:2])
redness = mixture.means_[:, 0] - mixture.means_[:, 1:].mean(axis=1)
red = mixture.predict(pixels).reshape(picture.shape[:2]) == redness.argmax()
print(f"{np.mean(sure > 0.9):.0%} of the pixels have a group that is more than 90 % certain")

figure, axes = plt.subplots(1, 2, figsize=(11, 3.8), layout="constrained")
shown = axes[0].imshow(sure, cmap="viridis", vmin=0.3, vmax=1)
axes[0].set_title("probability of the most likely group")
figure.colorbar(shown, ax=axes[0])
axes[1].imshow(np.where(red[:, :, None], picture, 255))
axes[1].set_title("the group that is most red")
for ax in axes:
    ax.set_axis_off()
plt.show()
