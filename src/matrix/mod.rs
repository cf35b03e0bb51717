//! Who can reach whom as a matrix of workloads and addresses outside, and the page that shows it in a browser.
//!
//! Comes in: a `Snapshot` and what `reach` makes of it. Goes out: ends, cells, and HTML with its style and scripts. This room reads
//! nothing and serves nothing: `commands` prints the page, and `observe` serves it.

mod cell;
mod end_filter;
mod matrix_end;
mod page;
mod reach_matrix;

pub(crate) use cell::Cell;
pub(crate) use end_filter::ReachFilter;
pub(crate) use matrix_end::MatrixEnd;
pub(crate) use page::reach_page;
pub use page::{PAGE_FILES, PageFile, node_page, node_page_without_matrix};
pub(crate) use reach_matrix::{Grouping, ReachMatrix, Selection};
