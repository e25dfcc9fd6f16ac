#!/bin/sh
# Everything of this comparison, from the data to the tables: sh run.sh SOURCE OUT
# SOURCE holds imagesTr, imagesTs, ratersTr, ratersTs; nnUNet_raw, nnUNet_preprocessed and nnUNet_results are set.
set -eu
source=$1 out=$2
here=$(cd "$(dirname "$0")" && pwd)
data=$here/../covariance_models
dataset=$nnUNet_raw/Dataset501_LIDC3D
export nnUNet_extTrainer=$here/trainers

python "$data/prepare.py" "$source" "$dataset"
nnUNetv2_plan_and_preprocess -d 501 -c 3d_fullres --no_pp
python "$data/shrink_plans.py" "$nnUNet_preprocessed/Dataset501_LIDC3D" 3d_fullres
nnUNetv2_preprocess -d 501 -plans_name nnUNetSmallPlans -c 3d_fullres
nnunet_stochastic_preprocess_raters -d 501 -p nnUNetSmallPlans -c 3d_fullres
nnunet_stochastic_ensemble_splits -d 501 --num_members 3

train() { nnUNetv2_train 501 3d_fullres "$1" -tr "$2" -p nnUNetSmallPlans -device cpu; }
for fold in 0 1 2; do
    train $fold nnUNetTrainerShort
done

# predict METHOD MODEL TRAINER SAMPLES OPTION...
predict() {
    method=$1 model=$2 trainer=$3 samples=$4
    shift 4
    nnunet_stochastic_predict -i "$dataset/imagesTs" -o "$out/$method/$model" -d 501 -c 3d_fullres -tr "$trainer" \
        -p nnUNetSmallPlans --save_probabilities --disable_tta --num_samples 16 --save_samples "$samples" -device cpu "$@"
    nnunet_stochastic_evaluate -pred "$out/$method/$model" -gt "$dataset/labelsTs" -gt_raters "$dataset/ratersTs"
}
for model in Softmax LowRank MoB MoBVolume; do
    for fold in 0 1 2; do
        train $fold nnUNetTrainer${model}Short
    done
    train 0 nnUNetTrainer${model}DropoutShort
    train 0 nnUNetTrainer${model}SWAGShort
    # A deterministic member has one sample.
    [ $model = Softmax ] && few=3 many=5 || few=15 many=15
    predict ensemble $model nnUNetTrainer${model}Short $few -f 0 1 2
    predict dropout $model nnUNetTrainer${model}DropoutShort $many -f 0 --epistemic dropout --num_members 5
    predict swag $model nnUNetTrainer${model}SWAGShort $many -f 0 --epistemic swag --num_members 5
done
python "$here/table.py" "$out" "$dataset/ratersTs"
nnunet_stochastic_report "$out"/*/*/evaluation -o "$out/report.html"
