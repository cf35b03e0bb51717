//! What a node does over time, on the real kernel: connections cut, edits, restarts, foreign rules, cleanup,
//! spoofed packets. Needs root; everything happens in namespaces of its own.

mod audit;
mod choices;
mod cleanup;
mod coexistence;
mod connections;
mod denied_flows;
mod first_instant;
mod first_names;
mod ipvs;
mod life;
mod live;
mod live_connections;
mod mesh;
mod migrate;
mod other_controllers;
mod packets;
mod policy_counts;
mod port_drops;
mod setup;
mod start_table;
mod status;
mod switch;
mod table_edits;
mod table_owner;
mod table_rewrites;
mod ui;
mod verify;
