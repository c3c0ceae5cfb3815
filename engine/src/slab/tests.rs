//! Tests of the store as a whole, on the device in memory.

mod backlog;
mod crash;
mod damage;
mod every_byte;
mod every_crash;
mod evict;
mod forged;
mod lend;
mod model;
mod opening;
mod requests;
mod unknown;
mod versions;
