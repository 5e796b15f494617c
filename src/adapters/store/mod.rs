//! The record on disk: SQLite, one writer thread, readers of their own.

pub mod report;
