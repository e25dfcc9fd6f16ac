# Sourced with the arguments 2d|2d_coarse|3d SOURCE: names of the data set and, unless its splits are there, the data
# set itself.
# SOURCE holds imagesTr, imagesTs, ratersTr, ratersTs and cases.json, see splits.py; nnUNet_raw, nnUNet_preprocessed and
# nnUNet_results are set. The current folder gets splits.json and patients.csv.
methods=$(cd "$here/../epistemic_methods" && pwd)
data=$(cd "$here/../covariance_models" && pwd)
case $1 in
    2d) id=504 name=Dataset504_LIDC2Dc configuration=2d crop="--crop 64" grid="" batch=8 validation=120 ;;
    # Of pixels so large that a network of self-attention learns them on two CPU cores.
    2d_coarse) id=502 name=Dataset502_LIDC2D configuration=2d crop="--crop 48 --spacing 5 1.2 1.2" grid=""
        batch="8 --patch_size 32 32" validation=80 ;;
    # A coarse grid for two CPU cores. The test crops are brought to it before, so that scores do not tell of resampling.
    3d) id=505 name=Dataset505_LIDC3Dc configuration=3d_fullres crop="--crop 48 --test_spacing 2 1.4 1.4"
        grid="-overwrite_target_spacing 2 1.4 1.4" batch=4 validation=40 ;;
    *) echo "the first argument is 2d, 2d_coarse or 3d, not $1" >&2; exit 2 ;;
esac
raw=$nnUNet_raw/$name
export nnUNet_extTrainer="$here/trainers:$methods/trainers" nnUNet_stochastic_seed=7
device=${DEVICE:-cuda}
model_options="-d $id -c $configuration -p nnUNetSmallPlans -device $device"

python "$methods/splits.py" "$2" $validation
if [ ! -f "$nnUNet_preprocessed/$name/splits_final.json" ]; then
    # Unquoted are words that are several.
    python "$data/prepare.py" "$2" "$raw" $crop
    nnUNetv2_plan_and_preprocess -d $id -c $configuration --no_pp $grid
    python "$data/shrink_plans.py" "$nnUNet_preprocessed/$name" $configuration --batch_size $batch
    nnUNetv2_preprocess -d $id -plans_name nnUNetSmallPlans -c $configuration
    nnunet_stochastic_preprocess_raters -d $id -p nnUNetSmallPlans -c $configuration
    cp splits.json "$nnUNet_preprocessed/$name/splits_final.json"
fi

# train TRAINER FOLD, unless that is done
train() {
    trained=$nnUNet_results/$name/nnUNetTrainer$1__nnUNetSmallPlans__$configuration/fold_$2
    [ -f "$trained/checkpoint_final.pth" ] ||
        nnUNetv2_train $id $configuration "$2" -tr "nnUNetTrainer$1" -p nnUNetSmallPlans -device $device
}
