"""Weights and multiply-adds a picture of the nine networks of Table 1, as PyTorch counts them.

Run: python benchmarks/multiplications.py
"""

import torch
from torch.utils.flop_counter import FlopCounterMode

from rnnspn.models.networks import Network, parameter_count
from rnnspn.training.reproduction import ROWS, Plan
from rnnspn.training.runs import RUNS


def main() -> None:
    """Count and print, a line for each row."""
    plan = Plan(folder=RUNS)
    for row in ROWS:
        config = plan.config(row, dropout=0).model
        network = Network(config).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(torch.zeros(1, 1, config.height, config.width))
        millions = counter.get_total_flops() / 2e6
        print(f"{row.name:<12}{parameter_count(network):>12,} weights{millions:>8.1f} million multiply-adds")


if __name__ == "__main__":
    main()
