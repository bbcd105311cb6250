//! hull as a user has it: the built programs, real microVMs, the real docker CLI.

mod bad_input;
mod confinement;
mod docker_cli;
mod lifecycle;
mod run;
mod scale;
mod streams;
mod survival;
mod templates;
mod terminal;
mod volumes;
