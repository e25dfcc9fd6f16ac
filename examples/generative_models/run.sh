#!/bin/sh
# This comparison, from the data to its tables: sh run.sh SOURCE OUT; DEVICE=cpu without a GPU.
# What SOURCE holds says ../epistemic_methods/data.sh. The folder that this is started in gets links and shifted images.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=$2
set -- 2d_coarse "$1"
. "$here/../epistemic_methods/data.sh"
python "$here/link_cases.py" "$raw" splits.json patients.csv
nnunet_stochastic_corrupt -i unshifted/images -gt unshifted/labels -o shifted --shifts blur noise contrast jpeg

models="Softmax SSN ProbUNet Diffusion"
for seed in 0 1 2; do
    for model in $models; do
        for part in SmallSWAG Small SmallDropout; do train $model$part $seed; done
    done
done

# predict NAME TRAINER SAMPLES OPTION...
predict() {
    predicted=$out/$1 trainer=$2 samples=$3
    shift 3
    set -- $model_options -tr "nnUNetTrainer$trainer" --disable_tta "$@"
    sets="" labels="" raters=""
    for shift in blur noise contrast jpeg; do
        nnunet_stochastic_predict -i shifted/$shift -o "$predicted/$shift" "$@" --save_probabilities
        sets="$sets $shift=$predicted/$shift" labels="$labels $shift=unshifted/labels" raters="$raters $shift=unshifted/raters"
    done
    nnunet_stochastic_predict -i "$raw/imagesTs" -o "$predicted/ID" "$@" --save_probabilities --save_samples "$samples"
    nnunet_stochastic_predict -i validation -o "$predicted/validation" "$@"
    nnunet_stochastic_determine_calibration -val "$predicted/validation" -gt "$raw/labelsTr" -gt_raters "$raw/ratersTr"
    # Unquoted are words that are several.
    nnunet_stochastic_evaluate -pred "$predicted/ID" -gt "$raw/labelsTs" -gt_raters "$raw/ratersTs" \
        -ood $sets -ood_gt $labels -ood_gt_raters $raters -val "$predicted/validation" --groups patients.csv \
        --convention entanglement --no_pictures
}
# Variables of a function are those of the script: predict sets predicted, trainer, samples, shift, sets, labels, raters.
for model in $models; do
    # A member of softmax has one sample; a sample of diffusion costs ten passes of its network.
    case $model in
        Softmax) all=3 alone="" each="" ;;
        Diffusion) all=9 alone="--num_samples 9" each="--num_samples 3" ;;
        *) all=9 alone="--num_samples 10" each="--num_samples 10" ;;
    esac
    predict $model-ensemble-0 ${model}Small $all -f 0 1 2 --epistemic ensemble $each
    for seed in 0 1 2; do
        # Without members there is one softmax, which has no EU.
        [ $model = Softmax ] || predict $model-none-$seed ${model}Small $all -f $seed --epistemic none $alone
        predict $model-dropout-$seed ${model}SmallDropout $all -f $seed --epistemic dropout --num_members 3 $each
        predict $model-swag_diag-$seed ${model}SmallSWAG $all -f $seed --epistemic swag_diag --num_members 3 $each
        predict $model-swag-$seed ${model}SmallSWAG $all -f $seed --epistemic swag --num_members 3 $each
        predict $model-swag_ent-$seed ${model}Small $all -f $seed --epistemic swag --num_members 3 $each
    done
    # Beside the tables, as ENT has it not, where the logits are linear in a last layer.
    case $model in
        Softmax | SSN)
            nnunet_stochastic_fit_laplace $model_options -tr "nnUNetTrainer${model}Small" -f 0 1 2 --overwrite
            for seed in 0 1 2; do
                predict $model-laplace-$seed ${model}Small $all -f $seed --epistemic laplace --num_members 4 $each
            done
            ;;
    esac
done
python "$here/table.py" "$out" patients.csv
python "$here/pictures.py" "$nnUNet_results/$name" "$out" "$raw"
