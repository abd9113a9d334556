//! What goes wrong between nodes, and what is promised nevertheless.

mod accepted;
mod cut;
mod foreign;
mod kill;
mod outage;
mod refusals;
mod restart;
mod rolling;
