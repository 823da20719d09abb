"""What every worker's process looks like: one thread, one instruction set, whatever machine it landed on."""

from __future__ import annotations

import os
import platform
import sys

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
X86 = ("x86_64", "AMD64")


def worker_environment(machine: str | None = None) -> dict[str, str]:
    """Environment variables under which a worker's numbers do not depend on the machine it runs on.

    One thread: sums are added in one order, and workers do not fight for cores. On x86-64 every numerical library is
    held to AVX2: torch's own kernels, oneDNN, OpenBLAS and MKL each choose by the CPU they find, and give other last
    digits with AVX-512. MKL needs its own switch: the others leave its matrix products as they were.

    Parameters
    ----------
    machine : str, optional
        As `platform.machine()` names it; that of this process if not given.
    """
    variables = dict.fromkeys(THREADS, "1") | {"TOKENIZERS_PARALLELISM": "false"}
    if (machine or platform.machine()) in X86:
        variables |= {
            "ATEN_CPU_CAPABILITY": "avx2",
            "ONEDNN_MAX_CPU_ISA": "AVX2",
            "OPENBLAS_CORETYPE": "Haswell",
            "MKL_CBWR": "AVX2",
        }
    return variables


def instruction_set() -> str:
    """Machine and vector instructions this process computes with, such as "x86_64-avx2".

    Once torch is loaded it is asked, since it falls back where the CPU has no AVX2. Before that the variables decide;
    "native" means that nothing holds the libraries back.
    """
    machine = platform.machine()
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "backends"):
        return f"{machine}-{torch.backends.cpu.get_cpu_capability().lower()}"
    return f"{machine}-{os.environ.get('ATEN_CPU_CAPABILITY', 'native').lower()}"
