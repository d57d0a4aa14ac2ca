//! What takes a real engine and is no other backend's: actions and workflows, images, a runner inside a container.

mod actions;
mod clients;
mod engine_image;
mod guide;
mod in_container;
mod own;
mod seal;
mod stage;
mod thread;
