#!/usr/bin/env python3
"""Start-up, and the most memory that ranking a pool takes: of one volume, and of many.

    benches/limits.py [--cases 200] [--base 8] [--shape 256,128,256]

Volumes of noise in an ellipsoid, each another one, in a project that is thrown away; a network of one step draws and ranks them.
OVERTRACE names the program (target/release/overtrace). Needs nothing but Python.
"""

import argparse
import os
import random
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

PROGRAM = os.path.abspath(os.environ.get("OVERTRACE", "target/release/overtrace"))


def start_up(runs: int) -> list[float]:
    """Milliseconds from the start of the program to its end."""
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        subprocess.run([PROGRAM, "--version"], stdout=subprocess.DEVNULL, check=True)
        times.append((time.perf_counter() - began) * 1e3)
    return times


def volume(shape: tuple[int, int, int]) -> bytearray:
    """A NIfTI-1 file of bytes: noise in an ellipsoid that touches every side."""
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, *shape, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, 2, 8)
    struct.pack_into("<8f", header, 76, 1, 1, 1, 1, 0, 0, 0, 0)
    struct.pack_into("<f", header, 108, 352)
    header[344:348] = b"n+1\0"
    width, height, depth = shape
    voxels = bytearray(width * height * depth)
    noise = random.Random(1)
    for z in range(depth):
        for y in range(height):
            left = 0.25 - (y / height - 0.5) ** 2 - (z / depth - 0.5) ** 2
            if left > 0:
                half = int(left**0.5 * width)
                first = (z * height + y) * width + width // 2 - half
                voxels[first : first + 2 * half] = noise.randbytes(2 * half)
    return header + voxels


def write(file: bytearray, path: Path) -> None:
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    path.write_bytes(packer.compress(bytes(file)) + packer.flush())


def ranking(folder: Path, cases: int, base: int, shape: tuple[int, int, int]) -> tuple[float, float]:
    """Seconds and megabytes of a ranking of so many volumes, by what one step on a small one has taught."""
    project, files = folder / "project", folder / "files"
    files.mkdir()
    project.mkdir()
    settings = f'[model]\nbase_channels = {base}\n[training]\nsteps = 1\n[compute]\ndevice = "cpu"\n'
    (project / "overtrace.toml").write_text(settings)

    def run(*words: str) -> None:
        done = subprocess.run([PROGRAM, "--project", str(project), *words], capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"overtrace {' '.join(words)}: {done.stdout}{done.stderr}")

    run("init", str(project))
    small = volume((64, 64, 8))
    (files / "first").mkdir()
    write(small, files / "first" / "image.nii.gz")
    small[352:] = bytes(n % 4 for n in range(len(small) - 352))
    write(small, files / "first" / "label.nii.gz")
    run("import", str(files / "first"), "--pool", "labelled")
    run("round", "start")
    file = volume(shape)
    for n in range(cases):
        # The same voxels would be the same case.
        file[-4:] = struct.pack("<I", n)
        path = files / f"case_{n}.nii.gz"
        write(file, path)
        run("import", str(path), "--pool", "unlabelled")
        path.unlink()
    began = time.perf_counter()
    words = [PROGRAM, "--project", str(project), "rank"]
    with (folder / "said").open("w+") as said:
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=said)
        # The most that it, or a worker of its, took.
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            said.seek(0)
            sys.exit(f"overtrace rank: {said.read()}")
    return time.perf_counter() - began, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--base", type=int, default=8)
    parser.add_argument("--shape", default="256,128,256")
    given = parser.parse_args()
    shape = tuple(int(n) for n in given.shape.split(","))
    if not os.path.isfile(PROGRAM):
        sys.exit(f"there is no {PROGRAM}: cargo build --release, or name another with OVERTRACE")
    times = start_up(50)
    print(f"start-up: {statistics.median(times):.1f} ms (50 runs, {min(times):.1f} to {max(times):.1f}); at most 50")
    most = {}
    for cases in (1, given.cases):
        with tempfile.TemporaryDirectory() as folder:
            seconds, most[cases] = ranking(Path(folder), cases, given.base, shape)
        print(f"ranking {cases} of {given.shape}, base_channels {given.base}: {most[cases]:.0f} MB, {seconds:.0f} s")
    further = most[given.cases] - most[1]
    print(f"further memory: {further:.0f} MB; at most 300")
    if statistics.median(times) > 50 or further > 300:
        sys.exit("more than that")


main()
