#!/usr/bin/env bash
# A model for a machine without a network: packed on a machine with one, served without.
#
#   with network:     examples/airgapped.sh pack org/model-name model.tar
#   without:          examples/airgapped.sh serve org/model-name model.tar "a prompt"
#
# Both use the Hugging Face cache that HF_HOME names (~/.cache/huggingface without it). A gated model needs HF_TOKEN
# on the machine with network only.
set -euo pipefail
usage="usage: airgapped.sh pack MODEL FILE | airgapped.sh serve MODEL FILE PROMPT"
what=${1:?$usage} model=${2:?$usage} file=$(realpath "${3:?$usage}")
hub=${HF_HOME:-$HOME/.cache/huggingface}/hub
folder=models--${model/\//--}

case $what in
pack)
    acode providers pull-model vllm "$model" # goes on where it was, if it was interrupted
    tar --create --file "$file" --directory "$hub" "$folder"
    ;;
serve)
    mkdir -p "$hub"
    tar --extract --file "$file" --directory "$hub"
    export ACODE_MODE=airgapped # nothing is fetched, whatever happens; a model that is not here is refused at once
    acode ask --model "$model" "${4:?$usage}"
    ;;
*)
    echo "$usage" >&2
    exit 2
    ;;
esac
