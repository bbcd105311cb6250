//! hull as a user has it: the built programs, real microVMs, the real docker CLI.

mod archive;
mod bad_input;
mod commit;
mod confinement;
mod docker_cli;
mod docker_compose;
mod docker_golden;
mod docker_py;
mod faults;
mod health;
mod hogs;
mod host_limits;
mod layers;
mod lifecycle;
mod machine;
mod options;
mod privileges;
mod run;
mod scale;
mod silence;
mod streams;
mod supervision;
mod survival;
mod templates;
mod terminal;
mod volumes;
