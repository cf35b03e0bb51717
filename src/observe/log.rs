//! The log: one line per event, on standard error.

use std::fmt;
use std::io::{self, IsTerminal};
use std::str::FromStr;
use std::time::SystemTime;
use tracing_subscriber::filter::{ParseError, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt as lines};

/// The filter if none is given.
pub const DEFAULT_FILTER: &str = "info";

/// Libraries that would log each attempt to reach the API server, which the agent logs once. A filter that names one of them
/// takes precedence.
const SILENT: [&str; 2] = ["kube_client", "kube_runtime"];

/// How a line of the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Text if standard error is a terminal, JSON otherwise.
    #[default]
    Auto,
    /// For people; in colour on a terminal, unless the environment variable `NO_COLOR` is set and not empty.
    Text,
    /// For machines: one object per line, with `timestamp`, `level`, `target`, `message` and the event's fields.
    Json,
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LogFormat::Auto => "auto",
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        })
    }
}

impl FromStr for LogFormat {
    type Err = LogError;

    fn from_str(word: &str) -> Result<LogFormat, LogError> {
        match word {
            "auto" => Ok(LogFormat::Auto),
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            other => Err(LogError::Format { word: other.to_owned() }),
        }
    }
}

/// A time as a field of a line: UTC, to the millisecond (RFC 3339). Empty for one before 1970.
pub fn timestamp(time: SystemTime) -> String {
    let Ok(since) = time.duration_since(SystemTime::UNIX_EPOCH) else { return String::new() };
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Years that begin in March end with their leap day. 719,468 days lie between the first of March of the year 0 and 1970.
    let day = days + 719_468;
    let (era, day) = (day / 146_097, day % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, year) = if month < 10 { (month + 3, year) } else { (month - 9, year + 1) };
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let (year, millisecond) = (era * 400 + year, since.subsec_millis());
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}Z")
}

/// Why the log could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// No such format.
    #[error("unknown log format {word:?}: use auto, text or json")]
    Format {
        /// The requested name.
        word: String,
    },
    /// The filter cannot be read.
    #[error(
        "cannot read the log filter {filter:?}: {source}. Write it as in info or info,bridgewarden=debug"
    )]
    Filter {
        /// The filter.
        filter: String,
        /// What is wrong with it.
        source: ParseError,
    },
    /// The process has a log already.
    #[error("cannot start the log: this process has started one before. Start it once, in main")]
    Twice,
}

/// Starts the process's log. `filter` is a list of levels and `target=level`, as in `RUST_LOG`; an empty one means [`DEFAULT_FILTER`].
///
/// Fails if the filter cannot be read, or if the log was started before.
pub fn init(format: LogFormat, filter: &str) -> Result<(), LogError> {
    let terminal = io::stderr().is_terminal();
    let style = match format {
        LogFormat::Auto if terminal => Style::text(terminal),
        LogFormat::Text => Style::text(terminal),
        LogFormat::Auto | LogFormat::Json => Style::Json,
    };
    let layer = layer(style, filter, io::stderr)?;
    tracing_subscriber::registry().with(layer).try_init().map_err(|_| LogError::Twice)
}

#[derive(Clone, Copy, Debug)]
enum Style {
    Coloured,
    Plain,
    Json,
}

impl Style {
    fn text(terminal: bool) -> Style {
        // https://no-color.org: "when present and not an empty string".
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if terminal && !refused { Style::Coloured } else { Style::Plain }
    }
}

fn layer<W>(style: Style, filter: &str, writer: W) -> Result<Box<dyn Layer<Registry> + Send + Sync>, LogError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let directives = if filter.trim().is_empty() { DEFAULT_FILTER } else { filter.trim() };
    let silent = SILENT.iter().filter(|library| !directives.contains(**library));
    let silenced =
        silent.fold(directives.to_owned(), |directives, library| format!("{directives},{library}=off"));
    let filter = silenced
        .parse::<Targets>()
        .map_err(|source| LogError::Filter { filter: filter.to_owned(), source })?;
    let lines = lines::layer().with_writer(writer);
    Ok(match style {
        Style::Coloured => lines.with_ansi(true).with_filter(filter).boxed(),
        Style::Plain => lines.with_ansi(false).with_filter(filter).boxed(),
        Style::Json => lines.json().flatten_event(true).with_span_list(false).with_filter(filter).boxed(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(style: Style, filter: &str, events: impl FnOnce()) -> String {
        let page = Page::default();
        let writer = page.clone();
        let layer = layer(style, filter, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), events);
        let bytes = page.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_json_line_has_the_fields_of_its_event_at_the_top() {
        let line = written(Style::Json, "", || tracing::info!(duration_ms = 7, "synced"));
        let object: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(object["message"], "synced");
        assert_eq!(object["duration_ms"], 7);
        assert_eq!(object["level"], "INFO");
        assert!(object["timestamp"].is_string());
        assert!(object["target"].is_string());
    }

    #[test]
    fn plain_text_has_no_escapes() {
        let line = written(Style::Plain, "", || tracing::warn!("a warning"));
        assert!(line.contains("WARN") && line.contains("a warning"), "{line}");
        assert!(!line.contains('\u{1b}'), "{line:?}");
    }

    #[test]
    fn coloured_text_has_escapes() {
        let line = written(Style::Coloured, "", || tracing::warn!("a warning"));
        assert!(line.contains('\u{1b}'), "{line:?}");
    }

    #[test]
    fn an_empty_filter_lets_pass_what_informs() {
        let text = written(Style::Plain, " ", || {
            tracing::info!("heard");
            tracing::debug!("unheard");
        });
        assert!(text.contains("heard") && !text.contains("unheard"), "{text}");
    }

    #[test]
    fn a_filter_may_name_a_target() {
        let text = written(Style::Plain, "warn,loud=debug", || {
            tracing::debug!(target: "loud", "heard");
            tracing::info!("unheard");
        });
        assert!(text.contains("heard") && !text.contains("unheard"), "{text}");
    }

    #[test]
    fn libraries_that_log_every_try_are_silent_unless_the_filter_names_them() {
        let speak = || tracing::error!(target: "kube_client::client::builder", "again");
        assert_eq!(written(Style::Plain, "debug", speak), "");
        assert!(written(Style::Plain, "info,kube_client=info", speak).contains("again"));
    }

    #[test]
    fn time_is_that_of_the_calendar() {
        let at =
            |milliseconds| timestamp(SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(milliseconds));
        assert_eq!(at(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(at(951_868_799_999), "2000-02-29T23:59:59.999Z");
        assert_eq!(at(1_709_251_200_000), "2024-03-01T00:00:00.000Z");
        assert_eq!(at(1_798_761_599_001), "2026-12-31T23:59:59.001Z");
        assert_eq!(at(4_107_542_400_000), "2100-03-01T00:00:00.000Z");
    }

    #[test]
    fn a_bad_filter_is_named_in_the_error() {
        let error = layer(Style::Plain, "info,=x=", io::stderr).err().unwrap().to_string();
        assert!(error.starts_with("cannot read the log filter \"info,=x=\": "), "{error}");
    }

    #[test]
    fn formats_are_read_as_they_are_shown() {
        for format in [LogFormat::Auto, LogFormat::Text, LogFormat::Json] {
            assert_eq!(format.to_string().parse::<LogFormat>().unwrap(), format);
        }
        let error = "xml".parse::<LogFormat>().unwrap_err().to_string();
        assert_eq!(error, "unknown log format \"xml\": use auto, text or json");
    }
}
