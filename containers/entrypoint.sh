#!/bin/sh
# The first argument is a command: predict, evaluate … for nnunet_stochastic_predict, or any that is installed.
set -eu

[ $# -gt 0 ] || set -- info
if command -v "nnunet_stochastic_$1" >/dev/null 2>&1; then
    name=nnunet_stochastic_$1
    shift
    exec "$name" "$@"
fi
if ! command -v "$1" >/dev/null 2>&1; then
    echo "error: $1 is no command of this container: name predict, evaluate, study or another nnunet_stochastic_…, or one of nnU-Net's" >&2
    exit 127
fi
exec "$@"
