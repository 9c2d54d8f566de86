"""Forward and backward of the loss over a large vocabulary: in our chunks, in torch's, and all logits at once.

Each in a process of its own, in turn, three times; time and peak resident memory (the whole process,
imports included) as medians, and their ratios.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time

TOKENS, HIDDEN, VOCABULARY, RUNS = 4096, 512, 65_536, 3


def measure(kind: str) -> None:
    """One forward and backward pass; prints seconds and bytes as JSON."""
    import torch
    from torch.nn import LinearCrossEntropyOptions
    from torch.nn.functional import cross_entropy, linear_cross_entropy
    from transformers import LlamaConfig, LlamaForCausalLM

    from lingraft.nn.chunked_cross_entropy import token_losses

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=HIDDEN, intermediate_size=64, num_hidden_layers=1, num_attention_heads=8
    )
    model = LlamaForCausalLM(config)
    hidden = torch.randn(TOKENS, HIDDEN, requires_grad=True)
    targets = torch.randint(0, VOCABULARY, (TOKENS,))
    started = time.perf_counter()
    if kind == "chunks":
        losses = token_losses(model, hidden, targets)
    elif kind == "torch's chunks":
        options = LinearCrossEntropyOptions()
        losses = linear_cross_entropy(hidden, model.lm_head.weight, targets, reduction="none", options=options)
    else:
        losses = cross_entropy(model.lm_head(hidden).float(), targets, reduction="none")
    losses.mean().backward()
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))


def main() -> None:
    """Run all in turn and print a table."""
    kinds = ("all at once", "chunks", "torch's chunks")
    seen: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
    for _ in range(RUNS):
        for kind in kinds:
            done = subprocess.run([sys.executable, __file__, kind], check=True, capture_output=True, text=True)
            seen[kind].append(json.loads(done.stdout))
    median = {
        kind: {of: statistics.median(run[of] for run in seen[kind]) for of in ("seconds", "bytes")} for kind in kinds
    }
    print(f"{TOKENS:,} tokens, vocabulary {VOCABULARY:,}, hidden {HIDDEN}")
    for kind in kinds:
        print(f"{kind:14} {median[kind]['seconds']:6.2f} s  {median[kind]['bytes'] / 2**30:6.2f} GiB")
    for kind in kinds[1:]:
        for figure in ("seconds", "bytes"):
            print(f"{kind} / all at once, {figure}: {median[kind][figure] / median['all at once'][figure]:.2f}")


if __name__ == "__main__":
    measure(sys.argv[1]) if len(sys.argv) > 1 else main()
