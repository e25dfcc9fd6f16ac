#!/bin/sh
# What both containers run to install PyTorch and the package: install.sh torch cpu|cuda [INDEX] or install.sh package cpu|cuda SOURCE
set -eu

step=$1 device=$2

case $device in
    cpu | cuda) ;;
    *)
        echo "error: DEVICE must be cpu or cuda, got $device" >&2
        exit 2
        ;;
esac

case $step in
    torch)
        index=${3:-}
        if [ "$device" = cpu ] && [ -z "$index" ]; then
            echo "error: the usual index has PyTorch with CUDA: set TORCH_INDEX to the index of its wheels for CPUs, which PyTorch's installation page names" >&2
            exit 2
        fi
        # What nnU-Net and this package allow, so that the second step leaves it as it is.
        python -m pip install --no-cache-dir ${index:+--index-url "$index"} 'torch>=2.6,!=2.9.*' torchvision
        ;;
    package)
        python -m pip install --no-cache-dir "$3[study]"
        python -m pip check
        python -c "import sys, torch; sys.exit(0 if bool(torch.version.cuda) == ('$device' == 'cuda') else 'error: this PyTorch is not for $device')"
        ;;
    *)
        echo "error: the step must be torch or package, got $step" >&2
        exit 2
        ;;
esac
