"""What a device can do at most: the denominator of MFU."""

from __future__ import annotations

import re

import torch

# Dense 16-bit tensor-core peaks in FLOP/s (fp32 accumulation, no sparsity) by words of the device's name; the most words win.
# Sources: NVIDIA's data sheets of each card (halved where they quote sparsity), its GA102, Ada and Blackwell GeForce white
# papers; AMD's MI300X data sheet.
PEAK_FLOPS = {
    "GB200": 2500e12, "B200": 2250e12, "GH200": 989e12, "H200": 989e12, "H200 NVL": 835e12, "H100": 989e12,
    "H100 PCIE": 756e12, "H100 NVL": 835e12, "H800": 989e12, "H20": 148e12, "A100": 312e12, "A800": 312e12, "A40": 149.7e12,
    "A30": 165e12, "A10": 125e12, "A10G": 70e12, "A6000": 154.8e12, "L40S": 362e12, "L40": 181e12, "L4": 121e12,
    "5090": 209.5e12, "4090": 165.2e12, "3090": 71e12, "V100": 125e12, "V100 PCIE": 112e12, "T4": 65e12, "MI300X": 1307e12,
}  # fmt: skip
FLOAT16_ONLY = ("V100", "V100 PCIE", "T4")  # no bfloat16 tensor cores, no TF32


def device_peak_flops(device: torch.device | str, dtype: torch.dtype = torch.bfloat16) -> float | None:
    """The device's dense peak in FLOP/s for matrices of `dtype`, from PEAK_FLOPS; None where it is not known.

    float32 means TF32, at half the 16-bit rate. Laptop cards and MIG slices are slower than their names say: None.
    """
    device = torch.device(device)
    if device.type != "cuda" or dtype not in (torch.bfloat16, torch.float16, torch.float32):
        return None
    words = set(re.split(r"[\s_-]+", torch.cuda.get_device_name(device).upper()))
    matches = [key for key in PEAK_FLOPS if words.issuperset(key.split()) and not words & {"LAPTOP", "MIG", "MAX"}]
    best = max(matches, key=lambda key: len(key.split()), default=None)
    if best is None or (best in FLOAT16_ONLY and dtype != torch.float16):
        return None
    return PEAK_FLOPS[best] / (2 if dtype == torch.float32 else 1)
