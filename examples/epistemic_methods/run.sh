#!/bin/sh
# This comparison, from the data to its table: sh run.sh 2d SOURCE OUT, or 3d for the crops; DEVICE=cpu without a GPU.
# What SOURCE holds says data.sh. The folder that this is started in gets the shifted images, too.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=$3
. "$here/data.sh"
nnunet_stochastic_corrupt -i "$raw/imagesTs" -gt "$raw/labelsTs" -o shifted --shifts blur noise contrast

for fold in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14; do
    for trainer in PlainStudy MoBVolumeTuned LowRankTuned; do train $trainer $fold; done
done
for fold in 0 5; do
    train SoftmaxTuned $fold
    for model in Softmax MoBVolume LowRank; do
        for method in Drop Cyclic SWAG EntSWAG; do train $model${method}Tuned $fold; done
    done
    for trainer in PlainStudy MoBVolumeTuned LowRankTuned; do
        nnunet_stochastic_fit_laplace $model_options -tr nnUNetTrainer$trainer -f $fold --overwrite
    done
done

# predict NAME TRAINER SAMPLES OPTION...
predict() {
    predicted=$out/$1 trainer=$2 samples=$3
    shift 3
    for shift in blur noise contrast; do
        nnunet_stochastic_predict -i shifted/$shift -o "$predicted/$shift" $model_options -tr "nnUNetTrainer$trainer" \
            --disable_tta "$@"
    done
    nnunet_stochastic_predict -i "$raw/imagesTs" -o "$predicted/ts" $model_options -tr "nnUNetTrainer$trainer" \
        --disable_tta --save_probabilities --save_samples "$samples" "$@"
    nnunet_stochastic_evaluate -pred "$predicted/ts" -gt "$raw/labelsTs" -gt_raters "$raw/ratersTs" --groups patients.csv \
        -ood blur="$predicted/blur" noise="$predicted/noise" contrast="$predicted/contrast" --no_pictures
}
# Variables of a function are those of the script: predict sets predicted, trainer, samples and shift.
# A deterministic member has one sample.
for model in Softmax MoBVolume LowRank; do
    case $model in
        Softmax) alone=PlainStudy one=1 five=5 ;;
        *) alone=${model}Tuned one=15 five=15 ;;
    esac
    for group in A B; do
        [ $group = A ] && fold=0 members="0 1 2 3 4" || fold=5 members="5 6 7 8 9"
        predict $model-alone-$group $alone $one -f $fold --epistemic none
        [ $model = Softmax ] && predict $model-tuned-$group SoftmaxTuned 1 -f $fold --epistemic none
        predict $model-ensemble-$group $alone $five -f $members
        predict $model-laplace-$group $alone $five -f $fold --epistemic laplace --num_members 6
        predict $model-dropout-$group ${model}DropTuned $five -f $fold --epistemic dropout --num_members 5
        predict $model-cyclic-$group ${model}CyclicTuned $five -f $fold --epistemic checkpoints
        predict $model-swag-$group ${model}SWAGTuned $five -f $fold --epistemic swag --num_members 5
        predict $model-swag_ent-$group ${model}EntSWAGTuned $five -f $fold --epistemic swag --num_members 5
    done
    predict $model-folds-A $alone $five -f 10 11 12 13 14
done
python "$here/table.py" "$out" patients.csv
