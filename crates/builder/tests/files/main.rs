//! Layers, contexts, and what COPY and ADD make of them.

mod buildah;
mod copy;
mod fetch;
mod git;
mod given_up;
mod hostile;
mod layer_tree;
mod portable;
mod solve;
mod support;
mod unpack;
