//! The domain from outside: stories, starts, and properties over random events and time.

mod house;
mod properties;
mod restart;
mod stories;
