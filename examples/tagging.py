"""
Tagging words
=============

Parts of speech from a few sentences of which only some words are tagged. The chain has a state for each tag and sees
two columns: the word, and its tag where that is known; an unknown tag is simply a missing cell. A mask rules out the
transitions that grammar does not allow.
"""

import numpy as np

from emkit import EMHiddenMarkov
from emkit.emissions import Categorical, Columns

# %%
# Sentences
# ---------
# A capital letter after each word is its tag; most are hidden from the fit.

CORPUS = """
the/D old/A dog/N sleeps/V . a/D cat/N sees/V the/D dog/N . the/D cat/N runs/V . the/D small/A bird/N sings/V .
a/D child/N sees/V a/D small/A bird/N . the/D child/N sings/V . the/D old/A cat/N sleeps/V . a/D dog/N runs/V .
the/D dog/N sees/V the/D old/A cat/N . a/D bird/N sleeps/V . the/D small/A child/N sees/V the/D dog/N .
the/D teacher/N reads/V a/D long/A book/N . a/D child/N reads/V . the/D long/A night/N ends/V . a/D teacher/N sings/V .
the/D small/A dog/N sees/V a/D cat/N . the/D old/A teacher/N sleeps/V . a/D long/A song/N ends/V .
the/D child/N loves/V the/D small/A cat/N . a/D bird/N loves/V the/D night/N . the/D teacher/N loves/V a/D book/N .
the/D old/A song/N ends/V . a/D small/A child/N runs/V . the/D cat/N loves/V a/D long/A night/N .
"""
TAGS = {"A": "adjective", "D": "determiner", "N": "noun", "V": "verb"}
# From each tag (row) to each: after a determiner comes no determiner or verb, after an adjective an adjective or noun.
ALLOWED = np.array([[1, 0, 1, 0], [1, 0, 1, 0], [1, 1, 1, 1], [1, 1, 1, 0]])
KNOWN = 0.3  # share of the words whose tag is known


def read():
    """Sentences as arrays of words, with their tags."""
    sentences = [[token.split("/") for token in s.split()] for s in CORPUS.strip().split(" .") if s.strip()]
    sentences = [[token for token in sentence if token != ["."]] for sentence in sentences]
    return [np.array(sentence, dtype=object) for sentence in sentences if sentence]


def hide(sentences, rng):
    """Forget most tags."""
    hidden = [sentence.copy() for sentence in sentences]
    for sentence in hidden:
        sentence[rng.random(len(sentence)) > KNOWN, 1] = None
    return hidden


# %%
# Fit, and compare what was hidden with what is predicted
# -------------------------------------------------------
# The mask gives states their places, the prior keeps possible what so few sentences do not show.
# So small a corpus has many optima; with this seed the search finds the best one more than once (others warn).

sentences = read()
seen = hide(sentences, np.random.default_rng(0))
law = Columns([(Categorical(handle_unknown="ignore"), [0]), (Categorical(categories=tuple(TAGS)), [1])])
tagger = EMHiddenMarkov(4, emission=law, transmat_mask=ALLOWED, transmat_prior=1.1, random_state=1)
tagger.fit(seen)
names = np.array(list(TAGS))[tagger.emissionprob_1_.argmax(axis=1)]
right = hidden = 0
for sentence, shown, states in zip(sentences, seen, tagger.predict(seen), strict=True):
    unknown = np.array([tag is None for tag in shown[:, 1]])
    right += int((names[states] == sentence[:, 1])[unknown].sum())
    hidden += int(unknown.sum())
print(f"{tagger.status_}; {right} of {hidden} hidden tags are found ({100 * right / hidden:.0f} %)")

# %%
# A new sentence
# --------------
# The last word was never seen. Its place in the sentence tells its tag.

sentence = "the small teacher sees the zebra".split()
rows = np.array([[word, None] for word in sentence], dtype=object)
print(" ".join(f"{word}/{TAGS[names[s]]}" for word, s in zip(sentence, tagger.predict(rows), strict=True)))
