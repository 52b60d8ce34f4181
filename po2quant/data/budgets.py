"""What the files of a data set may say about themselves, compared before memory is taken for it.

A few bytes can declare gigabytes. Each limit is a small multiple of what the largest official data set needs.
"""

from __future__ import annotations

from po2quant.files import one_line

MEMBER_BYTES = 64 * 2**20
"""Of a file in an archive or folder. The largest official one is a batch of CIFAR-10, 31 MB."""
TEXT_BYTES = 8 * 2**20
"""Of a list of files or labels. A list of all 109 619 pictures of visual wake words takes 5 MB."""
MEMBERS = 2**18
"""Files in an archive or folder. Visual wake words has 109 619 and Speech Commands 105 835."""
ARCHIVE_BYTES = 16 * 2**30
"""Of all files in an archive together, as it is extracted. Speech Commands takes 3.8 GB on disk."""
ARCHIVE_IN_MEMORY_BYTES = 2**29
"""Of all files in an archive that is read into memory. Visual wake words takes 0.24 GB."""

LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 4_000, 192_000
"""Of a sound file: from telephone to studio. At 1 Hz, 16 kHz sound would be 16 000 times as long."""
CHANNELS = 8
"""Of a sound file: 7.1 surround."""
VALUES_PER_SECOND = 96_000
"""Samples of all channels of a sound file, for each second that it may last: 48 kHz stereo, 0.4 MB as float32."""
CLIP_SECONDS = 60
"""Of a clip that is a sample. Recordings of machines take 11 s, spoken words 1 s. Some threads read one each."""
NOISE_SECONDS = 180
"""Of a recording of background noise. The longest of Speech Commands takes 95 s."""
ALL_NOISE_SECONDS = 3_600
"""Of all background noise together. Speech Commands has 400 s."""

FEATURE_BYTES = 64 * 2**20
"""Of an array in a feature file: 1310 clips of 200 x 128 in float16. The larger part of the subset has 480."""
NAME_CHARACTERS = 200
"""Of the name of a file or clip."""

PHOTO_BYTES, PHOTO_PIXELS = 16 * 2**20, 4 * 2**20
"""Of a photo that is shrunk. COCO's have at most 640 x 640 = 0.4 million pixels."""
ANNOTATION_BYTES = 2**29
"""Of a file of COCO's annotations. instances_train2017.json has 470 MB."""
ANNOTATION_RECORDS = 2**23
"""Lists and objects in it, each of which takes 64 bytes or more. That file has 860 001 records of some five."""


def check_at_most(subject: str, unit: str, declared: float, limit: float) -> None:
    """Refuse what declares more than its limit.

    Args:
        subject: the file, and the member of it.
        unit: of the two numbers, in the plural.
        declared: what the file says about itself.
        limit: one of this module.

    Raises:
        ValueError: that names all four.
    """
    if not declared <= limit:
        raise ValueError(f"{subject} must have at most {limit:,} {unit}. Received: {one_line(f'{declared:,}')}")
