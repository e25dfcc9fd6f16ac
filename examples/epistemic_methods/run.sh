#!/bin/sh
# This comparison, from the data to its table: sh run.sh 2d SOURCE OUT, or 3d for the crops; DEVICE=cpu without a GPU.
# SOURCE holds imagesTr, imagesTs, ratersTr, ratersTs and cases.json, see splits.py; nnUNet_raw, nnUNet_preprocessed and
# nnUNet_results are set. The folder that this is started in gets splits.json, patients.csv and the shifted images.
set -eu
source=$2 out=$3
here=$(cd "$(dirname "$0")" && pwd)
data=$here/../covariance_models
case $1 in
    2d) id=504 name=Dataset504_LIDC2Dc configuration=2d crop="--crop 64" grid="" batch=8 validation=120 ;;
    # A coarse grid for two CPU cores. The test crops are brought to it before, so that scores do not tell of resampling.
    3d) id=505 name=Dataset505_LIDC3Dc configuration=3d_fullres crop="--crop 48 --test_spacing 2 1.4 1.4"
        grid="-overwrite_target_spacing 2 1.4 1.4" batch=4 validation=40 ;;
    *) echo "the first argument is 2d or 3d, not $1" >&2; exit 2 ;;
esac
raw=$nnUNet_raw/$name
export nnUNet_extTrainer=$here/trainers nnUNet_stochastic_seed=7
device=${DEVICE:-cuda}
model_options="-d $id -c $configuration -p nnUNetSmallPlans -device $device"

# Unquoted are words that are several.
python "$data/prepare.py" "$source" "$raw" $crop
nnUNetv2_plan_and_preprocess -d $id -c $configuration --no_pp $grid
python "$data/shrink_plans.py" "$nnUNet_preprocessed/$name" $configuration --batch_size $batch
nnUNetv2_preprocess -d $id -plans_name nnUNetSmallPlans -c $configuration
nnunet_stochastic_preprocess_raters -d $id -p nnUNetSmallPlans -c $configuration
python "$here/splits.py" "$source" $validation
cp splits.json "$nnUNet_preprocessed/$name/splits_final.json"
nnunet_stochastic_corrupt -i "$raw/imagesTs" -gt "$raw/labelsTs" -o shifted --shifts blur noise contrast

train() { nnUNetv2_train $id $configuration "$2" -tr "nnUNetTrainer$1" -p nnUNetSmallPlans -device $device; }
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
