import subprocess
import sys


def test_the_room_opens_without_numba_torch_or_faiss():
    code = "import sys, amodal.metrics; print(sorted({'numba', 'torch', 'faiss'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
