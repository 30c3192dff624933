"""overtrace against PyTorch (and ONNX Runtime, where it is there) on this machine: the same network, the same batch, the
same threads, in one run whose rounds are interleaved.

    python benches/against_torch.py [--base 8,16,32,64] [--batch 16] [--threads N] [--rounds 5] [--json]
    python benches/against_torch.py --avx2
    python benches/against_torch.py --device cuda:0 --precision tf32|bf16|f32 --base 64 --batch 256

"forward" ends with softmax at the peers, and with every pixel's class, margin and entropy at overtrace. On a GPU, PyTorch is
timed as it is and compiled, both channels-last and in the same precision; a training step is in f32 or TF32.

Needs target/release/overtrace (or OVERTRACE=..) and torch; onnxruntime and onnx for the second peer. Prints medians over
all rounds, the least and the most, and how many times faster overtrace is than each peer.
"""
import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import time
import warnings

if "--avx2" in sys.argv:
    # Before PyTorch is loaded; ONNX Runtime cannot be told and is left out.
    os.environ.update(ONEDNN_MAX_CPU_ISA="AVX2", ATEN_CPU_CAPABILITY="avx2", MKL_ENABLE_INSTRUCTIONS="AVX2",
                      OVERTRACE_INSTRUCTIONS="avx2")

try:
    import torch
    import torch.nn.functional as F
    from torch import nn
except ImportError:
    sys.exit("PyTorch is missing, so there is nothing to compare with: pip install torch (onnxruntime onnx)")
try:
    import onnxruntime
except ImportError:
    onnxruntime = None
    print("onnxruntime is missing and left out", file=sys.stderr)

OVERTRACE = os.environ.get("OVERTRACE", "target/release/overtrace")
CLASSES = 4


class Block(nn.Module):
    """Two 3x3 convolutions with ReLU."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.a = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.b = nn.Conv2d(outputs, outputs, 3, padding=1)

    def forward(self, x):
        return F.relu(self.b(F.relu(self.a(x))))


class UNet(nn.Module):
    """The paper's network: five levels down, four up."""

    def __init__(self, base):
        super().__init__()
        widths = [base << level for level in range(5)]
        self.down = nn.ModuleList(Block(i, o) for i, o in zip([1] + widths, widths))
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, 2) for w in widths[-2::-1])
        self.mix = nn.ModuleList(Block(2 * w, w) for w in widths[-2::-1])
        self.head = nn.Conv2d(base, CLASSES, 1)

    def forward(self, x):
        kept = []
        for level, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if level else x)
            kept.append(x)
        kept.pop()
        for up, mix in zip(self.up, self.mix):
            x = mix(torch.cat([kept.pop(), up(x)], 1))
        return self.head(x)


def dice_loss(logits, truth):
    p = F.softmax(logits, 1)
    shared, total = (p * truth).sum((0, 2, 3)), (p + truth).sum((0, 2, 3))
    return CLASSES - ((2 * shared + 1e-5) / (total + 1e-5)).sum()


def seconds(work):
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def peers(base, batch, args):
    """Name of a peer's work -> what to time."""
    torch.manual_seed(1)
    device = args.device
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = args.precision != "f32"
    net = UNet(base).to(device, memory_format=torch.channels_last)
    images = torch.rand(batch, 1, 64, 64, device=device).contiguous(memory_format=torch.channels_last)
    classes = torch.randint(CLASSES, (batch, 64, 64), device=device)
    truth = F.one_hot(classes, CLASSES).permute(0, 3, 1, 2).float().contiguous(memory_format=torch.channels_last)

    def drawer(net, images):
        def forward():
            with torch.inference_mode():
                F.softmax(net(images).float(), 1)
        return forward

    def trainer(net):
        adam = torch.optim.Adam(net.parameters(), lr=1e-4, fused=device != "cpu")

        def step():
            adam.zero_grad(set_to_none=True)
            dice_loss(net(images), truth).backward()
            adam.step()
        return step

    kind = torch.bfloat16 if args.precision == "bf16" else torch.float32
    drawn = UNet(base).to(device, kind, memory_format=torch.channels_last)
    given = images.to(kind)
    works = {("forward", "torch"): drawer(drawn, given), ("training step", "torch"): trainer(net)}
    if device != "cpu":
        works["forward", "torch compiled"] = drawer(torch.compile(drawn), given)
        works["training step", "torch compiled"] = trainer(torch.compile(net))
    elif onnxruntime and not args.avx2:
        try:
            file = io.BytesIO()
            whole = nn.Sequential(UNet(base), nn.Softmax(1)).eval()
            with warnings.catch_warnings(action="ignore"):
                torch.onnx.export(whole, (torch.rand(batch, 1, 64, 64),), file, dynamo=False)
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = args.threads
            options.log_severity_level = 3
            session = onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])
            given = {session.get_inputs()[0].name: images.contiguous().numpy()}
            works["forward", "onnxruntime"] = lambda: session.run(None, given)
        except Exception as error:  # a peer that cannot be built is left out, and said to be
            print(f"onnxruntime is left out at base {base}: {error}", file=sys.stderr)
    return works


def ours(base, batch, args):
    command = [OVERTRACE, "bench", "--json", "--base-channels", str(base), "--batch", str(batch)]
    command += ["--threads", str(args.threads), "--runs", str(args.runs)]
    command += ["--device", args.device, "--precision", args.precision]
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    rows = [row for row in found["rows"] if row["base_channels"] == base]
    return found["machine"], {row["what"]: row["seconds"] for row in rows}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="8,16,32,64")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--device", default="cpu", help="cpu or cuda:N")
    parser.add_argument("--precision", default="f32", choices=["f32", "tf32", "bf16"])
    parser.add_argument("--avx2", action="store_true", help="hold overtrace and PyTorch to AVX2")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=3, help="times each thing is done in a round")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = []
    for base in map(int, args.base.split(",")):
        works = peers(base, args.batch, args)
        for work in works.values():
            work()
        times = {}
        for _ in range(args.rounds):
            machine, own = ours(base, args.batch, args)
            for what, values in own.items():
                times.setdefault((what, "overtrace"), []).extend(values)
            if args.device != "cpu" and not machine["gpu"]:
                sys.exit(f"overtrace computed on {machine['processor']}, not on {args.device}")
            for key, work in works.items():
                # As warm as overtrace's bench makes itself.
                start = time.perf_counter()
                while time.perf_counter() - start < 0.3:
                    seconds(work)
                times.setdefault(key, []).extend(seconds(work) for _ in range(args.runs))
        for (what, who), values in sorted(times.items()):
            median = statistics.median(values)
            ratio = median / statistics.median(times[what, "overtrace"])
            rows.append(
                dict(what=what, base=base, batch=args.batch, threads=args.threads, who=who, runs=len(values),
                     median_ms=median * 1e3, least_ms=min(values) * 1e3, most_ms=max(values) * 1e3,
                     overtrace_is_faster=ratio))
    if args.json:
        print(json.dumps({"machine": machine, "torch": torch.__version__, "rows": rows}))
        return
    where = machine["gpu"] or f"{machine['processor']}, {args.threads} threads, {machine['instructions']}"
    print(f"{where}, {machine['precision']}; torch {torch.__version__}")
    print(f"{'what':<14} {'base':>4} {'batch':>5} {'who':<14} {'median ms':>10} {'least':>9} {'most':>9} {'overtrace':>9}")
    for row in rows:
        print(f"{row['what']:<14} {row['base']:>4} {row['batch']:>5} {row['who']:<14} {row['median_ms']:>10.1f} "
              f"{row['least_ms']:>9.1f} {row['most_ms']:>9.1f} {row['overtrace_is_faster']:>8.2f}x")


if __name__ == "__main__":
    main()
