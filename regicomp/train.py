"""`python -m regicomp.train`: one run from its configuration to its record."""

from __future__ import annotations

import hydra
from omegaconf import DictConfig

from regicomp.config import resolvers, settings
from regicomp.launch import hydra_job, signals, sweep
from regicomp.training.run import train
from regicomp.utils import cli

resolvers.register_resolvers()


@hydra.main(version_base="1.3", config_path=str(settings.conf_dir()), config_name="train")
def main(cfg: DictConfig) -> None:
    """Entry point."""
    with signals.requeued(hydra_job.how_to_go_on()):
        if hydra_job.in_sweep():
            with sweep.kept_apart(cfg, hydra_job.run_dir()):
                _checked(sweep.resuming(cfg))
        else:
            with cli.told_in_one_line():
                _checked(cfg)


def _checked(cfg: DictConfig) -> None:
    resolved, run_dir = settings.resolve(cfg), hydra_job.run_dir()
    cli.quiet_libraries()
    with sweep.begun(cfg, run_dir):
        train(resolved, run_dir)


if __name__ == "__main__":
    with cli.told_in_one_line():
        main()
