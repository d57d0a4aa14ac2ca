//! What is bubblewrap's alone: its walls, an image as the guest's system, a runner who is not root, and three hours by a turned clock.

mod hours;
mod image;
mod own;
mod providers;
mod session;
mod user;
