#!/bin/sh
# This comparison, from the data to its tables: sh run.sh SOURCE OUT; DEVICE=cpu without a GPU.
# What SOURCE holds says ../epistemic_methods/data.sh, whose data set, plans and deterministic networks these are.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=$2
set -- 3d "$1"
. "$here/../epistemic_methods/data.sh"

# predict TRAINER FOLD SAMPLES FOLDER
predict() {
    nnunet_stochastic_predict -i "$raw/imagesTs" -o "$out/$4" $model_options -tr "nnUNetTrainer$1" -f "$2" --disable_tta \
        --epistemic none --save_probabilities --save_samples "$3"
    nnunet_stochastic_evaluate -pred "$out/$4" -gt "$raw/labelsTs" -gt_raters "$raw/ratersTs" --groups patients.csv \
        --no_pictures
}
energy="SingleBasisEnergy MoBEnergy"
models="Diagonal LowRank SingleBasis MoB2 MoB MoB4 MoB5 SingleBasisVolume MoBVolume $energy"
options="Heads1 Scale02 Variance0 Argmax KL10 W10 Orth0 Partition1"
for seed in 0 1 2; do
    train PlainStudy $seed
    predict PlainStudy $seed 1 vote/Plain_$seed
    for setting in Vote Raters; do
        folder=$(echo $setting | tr VR vr)
        for model in Deterministic $models; do
            train $model$setting $seed
            # A deterministic network has one sample.
            [ $model = Deterministic ] && samples=1 || samples=16
            predict $model$setting $seed $samples $folder/${model}_$seed
        done
    done
done
mkdir -p "$out/options"
for seed in 0 1; do
    ln -sfn ../raters/MoBVolume_$seed "$out/options/MoBVolumeRaters_$seed" # of the three seeds those of the options
    for option in $(printf "MoBVolume%s " $options); do
        train $option $seed
        predict $option $seed 16 options/${option}_$seed
    done
done
table() { python "$here/../energy_score/table.py" "$1" "$raw/ratersTs" patients.csv $2; }
table "$out/vote" "Deterministic Plain $models"
table "$out/raters" "Deterministic $models"
for setting in vote raters; do
    table "$out/$setting" "Diagonal SingleBasis MoB"
    table "$out/$setting" "MoB SingleBasis MoB2 MoB4 MoB5 LowRank MoBVolume"
    table "$out/$setting" "LowRank MoBVolume $energy"
done
table "$out/options" "MoBVolumeRaters $(printf "MoBVolume%s " $options)"
python "$here/plot_curves.py" "$nnUNet_results/$name" curves.png Deterministic Diagonal LowRank SingleBasis MoB \
    SingleBasisVolume MoBVolume
