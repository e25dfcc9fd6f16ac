#!/bin/sh
# The 2d half of this comparison, from the data to its table: sh run.sh SOURCE OUT
# SOURCE holds imagesTr, imagesTs, ratersTr, ratersTs; nnUNet_raw, nnUNet_preprocessed and nnUNet_results are set, and
# splits.json and patients.csv (case,patient of the test cases) lie in the folder that this is started in.
set -eu
source=$1 out=$2
here=$(cd "$(dirname "$0")" && pwd)
data=$here/../covariance_models
name=Dataset504_LIDC2Dc
raw=$nnUNet_raw/$name
export nnUNet_extTrainer=$here/trainers nnUNet_stochastic_seed=7
model_options="-d 504 -c 2d -p nnUNetSmallPlans"

python "$data/prepare.py" "$source" "$raw" --crop 64
nnUNetv2_plan_and_preprocess -d 504 -c 2d --no_pp
python "$data/shrink_plans.py" "$nnUNet_preprocessed/$name" 2d --batch_size 8
nnUNetv2_preprocess -d 504 -plans_name nnUNetSmallPlans -c 2d
nnunet_stochastic_preprocess_raters -d 504 -p nnUNetSmallPlans -c 2d
cp splits.json "$nnUNet_preprocessed/$name/splits_final.json"
nnunet_stochastic_corrupt -i "$raw/imagesTs" -gt "$raw/labelsTs" -o shifted --shifts blur noise contrast

train() { nnUNetv2_train 504 2d "$2" -tr "nnUNetTrainer$1" -p nnUNetSmallPlans; }
for fold in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14; do
    for trainer in PlainStudy MoBVolumeTuned LowRankTuned; do train $trainer $fold; done
done
for fold in 0 5; do
    train SoftmaxTuned $fold
    for model in Softmax MoBVolume LowRank; do
        for method in Drop Cyclic SWAG EntSWAG; do train $model${method}Tuned $fold; done
    done
    for trainer in PlainStudy MoBVolumeTuned LowRankTuned; do
        nnunet_stochastic_fit_laplace $model_options -tr nnUNetTrainer$trainer -f $fold
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
