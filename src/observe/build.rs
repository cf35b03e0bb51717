//! Which build of the program this is.

/// The version, and what a release knows about its source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Build {
    /// The version of the package.
    pub version: &'static str,
    /// The commit it was built from, if that is known.
    pub revision: Option<&'static str>,
    /// The date of that commit in UTC, such as 2026-01-02, if that is known.
    pub date: Option<&'static str>,
}

impl Build {
    /// This program. `make release` sets the two variables when it compiles.
    pub const THIS: Build = Build {
        version: env!("CARGO_PKG_VERSION"),
        revision: option_env!("BRIDGEWARDEN_REVISION"),
        date: option_env!("BRIDGEWARDEN_DATE"),
    };
}
