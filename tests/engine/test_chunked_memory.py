"""Chunked encoding and decoding of long clips: what it takes does not grow with their length."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys
from pathlib import Path
import torch
from tests.support.video import ARMS, build

torch.set_num_threads(1)
frames, how = int(sys.argv[1]), sys.argv[2]
vae = build({"channels": [16, 32, 32]}, dtype=torch.float32, **ARMS["E"])

def clip(frames):
    yield torch.zeros(1, 3, 1, 64, 64)
    for _ in range((frames - 1) // 4):
        yield torch.rand(1, 3, 4, 64, 64)

def in_chunks(frames):
    return sum(y.shape[2] for y in vae.decode_chunks(p.mean for p in vae.encode_chunks(clip(frames))))

def at_once(frames):
    return vae.decode(vae.encode(torch.cat(list(clip(frames)), 2)).mean).shape[2]

def kib(name):
    return int(Path("/proc/self/status").read_text().split(name + ":")[1].split()[0])

with torch.inference_mode():
    in_chunks(9)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of the imports
    before = kib("VmRSS")
    assert {"chunks": in_chunks, "whole": at_once}[how](frames) == frames
print((kib("VmHWM") - before) / 1024)
"""


def peak(frames, how):
    """MiB that a process comes to need besides, at most, when it encodes and decodes so many frames of 64 px."""
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}  # what is freed goes back to the system at once
    command = [sys.executable, "-c", SCRIPT, str(frames), how]
    return float(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of memory is read as Linux tells it")
def test_a_long_clip_takes_no_more_memory_than_a_short_one_in_chunks():
    short, long = peak(65, "chunks"), peak(257, "chunks")
    whole = peak(65, "whole")
    assert whole > 60, "at once it does grow, so that this test can fail"
    assert long < short + 0.15 * whole, (short, long, whole)
