//! What is bubblewrap's alone: its walls, an image as the guest's system, and a runner who is not root.

mod image;
mod own;
mod providers;
mod session;
mod user;
