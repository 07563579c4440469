"""`python -m regicomp.train`: one run from its configuration to its record."""

from __future__ import annotations

import sys

import hydra
from omegaconf import DictConfig

from regicomp.config import old_names, resolvers, settings
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
    if line := old_names.told(found):
        print(line, file=sys.stderr, flush=True)
    _composed()


@hydra.main(version_base="1.3", config_path=str(settings.conf_dir()), config_name="train")
def _composed(cfg: DictConfig) -> None:
    with signals.requeued(hydra_job.how_to_go_on()):
        if hydra_job.in_sweep():
            with sweep.kept_apart(cfg, hydra_job.run_dir()):
                _run(sweep.resuming(cfg))
        else:
            with cli.told_in_one_line():
                _run(cfg)


def _run(cfg: DictConfig) -> None:
    resolved, run_dir = settings.resolve(cfg), hydra_job.run_dir()
    cli.quiet_libraries()
    with sweep.begun(cfg, run_dir):
        train(resolved, run_dir)


if __name__ == "__main__":
    with cli.told_in_one_line():
        main()
