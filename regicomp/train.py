"""`python -m regicomp.train`: one run from its configuration to its record."""

from __future__ import annotations

import sys

import hydra
from omegaconf import DictConfig

from regicomp.config import old_names, own_backbones, resolvers, settings
from regicomp.launch import help, hydra_job, signals, sweep
from regicomp.training.run import train
from regicomp.utils import cli

resolvers.register_resolvers()


def main() -> None:
    """Entry point."""
    if help.asked(sys.argv[1:]):
        print(help.text(help.TRAIN))
        return
    sys.argv[1:], found = old_names.in_arguments(sys.argv[1:])
    for line in (old_names.told(found), own_backbones.give_sources(sys.argv[1:])):
        if line:
            print(line, file=sys.stderr, flush=True)
    _composed()


@hydra.main(version_base="1.3", config_path=str(settings.conf_dir()), config_name="train")
def _composed(cfg: DictConfig) -> float | None:
    """The run's figure, for a sweeper that searches settings."""
    with signals.requeued(hydra_job.how_to_go_on()):
        if hydra_job.in_sweep():
            with sweep.kept_apart(cfg, hydra_job.run_dir()):
                return _run(sweep.resuming(cfg))
        else:
            with cli.told_in_one_line():
                return _run(cfg)
    return None  # a run of a sweep failed


def _run(cfg: DictConfig) -> float | None:
    resolved, run_dir = settings.resolve(cfg), hydra_job.run_dir()
    cli.quiet_libraries()
    with sweep.begun(cfg, run_dir):
        from regicomp.evaluation import record

        return record.optimized(train(resolved, run_dir), resolved.optimized_metric)


if __name__ == "__main__":
    with cli.told_in_one_line():
        main()
