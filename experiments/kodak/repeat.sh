#!/bin/sh
# Every training behind the table of five backbones, on JOBS cores, one thread each; called again it goes on where it was.
# REGICOMP_DATA names the folder that holds bsds500/, imagenet1000/, kodak/ and ood/.
# Usage: experiments/kodak/repeat.sh [BACKBONE...]    PYTHON=python JOBS=2 GRAPH=cuda_graph=true (with a GPU)
set -eu
export OMP_NUM_THREADS=1
train() { "${PYTHON:-python}" -m regicomp.train "$@" ckpt=last; }
sweep() { train -m hydra/launcher=joblib "hydra.launcher.n_jobs=${JOBS:-2}" "$@"; } # Hydra takes -m only before all settings
control() { sweep reg=off "variant='λ control'" 'hydra.sweep.subdir=paper_${seed}' "$@"; }
six='[0.000659,0.00143,0.0027,0.00498,0.00939,0.0181]' # λ at which a plain codec has the rates of α = 0.1

base() {
    case $1 in
    autoregressive) train experiment=base "backbone=$1" ;;
    mlicpp) # 6 minutes of an H100 with GRAPH=cuda_graph=true, hours of two cores
        train experiment=base "backbone=$1" 'phases=[]' data.crop=192 data.batch_size=16 trainer.max_steps=2200 optimizer.every=20 ${GRAPH:-}
        ;;
    elic) # at a learning rate that its ReLUs bear, and in the end on crops so large that whole images are nothing new to it
        first elic optimizer.lr=1.5e-3
        second elic optimizer.lr=1.5e-3 trainer.max_steps=2000 $(crops elic)
        ;;
    *) # in two parts, since after the first its highest level still lay below JPEG
        first "$1"
        second "$1" optimizer.lr=3e-3 trainer.max_steps=2500 data.crop=128 data.batch_size=8
        ;;
    esac
}

first() { # BACKBONE SETTING...
    name=$1
    shift
    train experiment=base "backbone=$name" trainer.max_steps=3000 'phases=[{start: 900, crop: 128, batch_size: 8}]' "$@" "hydra.run.dir=multirun/base/${name}_first"
}

second() { # BACKBONE SETTING...: from the codec of the first part
    name=$1
    shift
    train experiment=base "backbone=$name" 'phases=[]' "$@" "init_from=multirun/base/${name}_first/codec.safetensors"
}

crops() { # what each branch takes crops of
    case $1 in
    elic) echo data.crop=256 data.batch_size=2 ;; # the others as experiment=branches_of has it
    esac
}

[ $# -gt 0 ] || set -- hyperprior autoregressive attention elic mlicpp
for backbone; do
    if [ "$backbone" = hyperprior ]; then # the codec that comes with regicomp
        train experiment=branches_start
        sweep experiment=branches
        control experiment=branches "rate.lambdas=${six%]},0.0361]" hydra.sweep.dir=multirun/branches_control
    else
        base "$backbone"
        train experiment=branches_of_start "backbone=$backbone" $(crops "$backbone")
        sweep experiment=branches_of "backbone=$backbone" $(crops "$backbone") reg=off,default,paper
        control experiment=branches_of "backbone=$backbone" $(crops "$backbone") "rate.lambdas=$six" "hydra.sweep.dir=multirun/branches_${backbone}_control"
    fi
done
