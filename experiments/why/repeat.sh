#!/bin/sh
# Every training behind the tables that ask where the regularizer could pay; called again it goes on where it was. One thread each: call it with
# different parts side by side. They start from what experiments/kodak/repeat.sh makes of the hyperprior, alignment from the autoregressive codec,
# pressure from ELIC's, crops from what silent makes. REGICOMP_DATA names the folder that holds bsds500/, imagenet1000/, kodak/ and ood/.
# Usage: experiments/why/repeat.sh [PART...]    of: options pressure minimized adam mixed fixed alignment scarce silent crops unseen waste; PYTHON=python SEEDS=0 BACKBONES="hyperprior autoregressive attention elic mlicpp"
set -eu
export OMP_NUM_THREADS=1
python=${PYTHON:-python}
train() { "$python" -m regicomp.train ckpt=last hydra.mode=RUN "$@"; }
plain() { train reg=off init_source_from=null "$@"; }
six='[0.000659,0.00143,0.0027,0.00498,0.00939,0.0181]' # λ at which a plain codec has the rates of α = 0.1
seven="${six%]},0.0361]"
control() { plain "variant='λ control'" "$@"; }

options() {
    branch() {
        name=$1
        shift
        train experiment=branches "seed=$seed" "hydra.run.dir=multirun/branches_options/${name}_$seed" "$@"
    }
    branch first_half reg=paper reg.release_steps=250
    branch second_half reg=paper reg.warmup_steps=250 reg.ramp_steps=0
    branch control_second_half reg=off init_source_from=null "variant='λ control of the second half'" \
        'rate.lambdas=[0.000712,0.00155,0.00292,0.00538,0.0102,0.0195,0.0385]'
    branch pressure reg=paper reg.pressure=0.1
    branch rounded reg=rounded reg.alpha=0.1
}

pressure() { # ELIC at a constant pressure, as options has it for the hyperprior
    train experiment=branches_of backbone=elic "seed=$seed" reg=paper reg.pressure=0.1 data.crop=256 data.batch_size=2 \
        "hydra.run.dir=multirun/branches_elic/pressure_$seed"
}

minimized() { # the λ control of H_θ minimized, whose branches are with the hyperprior's
    control experiment=branches "seed=$seed" 'rate.lambdas=[0.000936,0.00215,0.00429,0.00849,0.0169,0.0325,0.0613]' \
        "hydra.run.dir=multirun/branches_control/minimized_$seed"
}

adam() {
    for reg in off paper; do
        train experiment=branches "reg=$reg" "seed=$seed" optimizer=adam optimizer.lr=1e-4 optimizer.source_lr=1e-3 \
            "hydra.run.dir=multirun/branches_options/adam_${reg}_$seed"
    done
}

mixed() {
    all="experiment=branches quantization=mixed seed=$seed"
    train $all reg=paper "hydra.run.dir=multirun/branches_mixed/paper_$seed"
    plain $all "hydra.run.dir=multirun/branches_mixed/off_$seed"
    control $all "rate.lambdas=$seven" "hydra.run.dir=multirun/branches_mixed_control/paper_$seed"
}

fixed() {
    mkdir -p multirun/levels
    for level in 2:0.0018:0.00103 3:0.0035:0.00224 4:0.0067:0.00463 5:0.013:0.00997; do # quality, λ, and that of its control
        quality=${level%%:*} lmbda=${level#*:}
        controls=${lmbda#*:} lmbda=${lmbda%:*}
        start=multirun/levels/$lmbda.pth.tar
        [ -f "$start" ] || "$python" -m regicomp.export regicomp/pretrained/codec.safetensors --compressai "$start" --quality "$quality"
        train experiment=branches_fixed_start seed=0 "objective.lmbda=$lmbda" "hydra.run.dir=multirun/levels/$lmbda"
        all="experiment=branches_fixed seed=$seed"
        train $all reg=paper "objective.lmbda=$lmbda" "hydra.run.dir=multirun/branches_fixed/paper_${lmbda}_$seed"
        train $all reg=default "objective.lmbda=$lmbda" "hydra.run.dir=multirun/branches_fixed/mild_${lmbda}_$seed"
        plain $all "objective.lmbda=$lmbda" "hydra.run.dir=multirun/branches_fixed/off_${lmbda}_$seed"
        control $all "objective.lmbda=$controls" "init_from=$start" "hydra.run.dir=multirun/branches_fixed_control/${lmbda}_$seed"
    done
}

alignment() {
    all="experiment=branches_of backbone=autoregressive seed=$seed" runs=multirun/branches_alignment
    plain $all "hydra.run.dir=$runs/off_$seed"
    train $all reg=paper "hydra.run.dir=$runs/paper_$seed"
    control $all "rate.lambdas=$six" "hydra.run.dir=$runs/control_paper_$seed"
    for family in hyperprior elic mlicpp; do
        start=multirun/alignment/${family}_source
        train experiment=branches_of_start backbone=autoregressive "source=$family" "hydra.run.dir=$start"
        train $all reg=paper "source=$family" "init_source_from=$start/source.safetensors" "hydra.run.dir=$runs/q_${family}_$seed"
    done
}

few_images() { # COUNT FOLDER: links to so many training images, the first ones by name, in a folder
    mkdir -p "multirun/few_images/$2"
    for images in bsds500/train bsds500/test imagenet1000; do
        find "$(realpath "$REGICOMP_DATA/$images")" -iname '*.jp*g' | LC_ALL=C sort
    done | sed -n "1,$1p" | while IFS= read -r image; do ln -sf "$image" "multirun/few_images/$2/"; done
}

scarce() {
    few_images 10 seen
    for count in 10 50 400 1283; do
        few_images "$count" "$count"
        all="experiment=scarce data.train_dir=multirun/few_images/$count seed=$seed" runs=multirun/branches_scarce_$count
        plain $all "hydra.run.dir=$runs/off_$seed"
        train $all reg=paper "hydra.run.dir=$runs/paper_$seed"
        control $all "rate.lambdas=$seven" "hydra.run.dir=$runs/control_paper_$seed"
    done
}

silent() { # ELIC's codec at the recipe's learning rate, of which its h_a dies, and its branches
    codec=multirun/base/elic_silent start=multirun/base/elic_silent_source runs=multirun/branches_elic_silent
    train experiment=base backbone=elic trainer.max_steps=3000 'phases=[{start: 900, crop: 128, batch_size: 8}]' "hydra.run.dir=${codec}_first"
    train experiment=base backbone=elic trainer.max_steps=2500 'phases=[]' data.crop=128 data.batch_size=8 optimizer.lr=3e-3 \
        "init_from=${codec}_first/codec.safetensors" "hydra.run.dir=${codec}_second"
    train experiment=base backbone=elic trainer.max_steps=1000 'phases=[]' data.crop=256 data.batch_size=2 optimizer.lr=2e-3 \
        "init_from=${codec}_second/codec.safetensors" "hydra.run.dir=$codec"
    elic_branches "$codec" "$start" "$runs" data.crop=256 data.batch_size=2
}

crops() { # branches from that codec before it saw crops larger than 128², and a plain one on larger crops, as many pixels an update
    codec=multirun/base/elic_silent_second runs=multirun/branches_elic_silent_crops128
    elic_branches "$codec" multirun/base/elic_silent_source128 "$runs"
    plain experiment=branches_of backbone=elic "seed=$seed" "init_from=$codec/codec.safetensors" data.crop=256 data.batch_size=2 \
        "hydra.run.dir=$runs/crops256_$seed"
}

elic_branches() { # CODEC START RUNS SETTING...
    codec=$1 start=$2 runs=$3
    shift 3
    of="backbone=elic init_from=$codec/codec.safetensors"
    all="experiment=branches_of $of seed=$seed"
    train experiment=branches_of_start $of "$@" "hydra.run.dir=$start"
    plain $all "$@" "hydra.run.dir=$runs/off_$seed"
    train $all reg=paper "$@" "init_source_from=$start/source.safetensors" "hydra.run.dir=$runs/paper_$seed"
    control $all "$@" "rate.lambdas=$six" "hydra.run.dir=${runs}_control/paper_$seed"
}

unseen() { # the branches of kodak/repeat.sh on four unseen domains, and on BSDS500's validation images, which are in-domain
    measure() { # NAME_OF_THE_BACKBONE_OR_NOTHING BRANCH ARM
        for sets in unseen:ood/art,ood/medical,ood/satellite,ood/screen validation:bsds500/val; do
            out="multirun/branches$1_${sets%%:*}/${3}_$seed"
            [ -f "$out/results.json" ] || "$python" -m regicomp.evaluate "checkpoint='multirun/branches$1$2/codec.safetensors'" threads=1 \
                "hydra.run.dir=$out" "testsets=[${sets#*:}]"
        done
    }
    for backbone in ${BACKBONES:-hyperprior autoregressive attention elic mlicpp}; do
        name="_$backbone" branch="backbone=$backbone,experiment=branches_of"
        [ "$backbone" != hyperprior ] || name="" branch=experiment=branches
        [ "$backbone" != elic ] || branch=backbone=elic,data.batch_size=2,data.crop=256,experiment=branches_of
        measure "$name" "/$branch,reg=off,seed=$seed" off
        measure "$name" "/$branch,reg=paper,seed=$seed" paper
        measure "$name" "_control/paper_$seed" control_paper
    done
}

waste() {
    for arm in off default paper minimized; do
        train experiment=branches_start "init_from='multirun/branches/experiment=branches,reg=$arm,seed=0/codec.safetensors'" \
            init_source_from=multirun/branches_start/source.safetensors trainer.max_steps=500 "hydra.run.dir=multirun/branches_waste/$arm"
    done
}

[ $# -gt 0 ] || set -- options pressure minimized adam mixed fixed alignment scarce silent crops unseen waste
for part; do
    for seed in ${SEEDS:-0}; do "$part"; done
done
