//! Values as a person reads them, and axes that fit them.

/// A value in a unit of Grafana's.
pub(crate) fn shown(value: f64, unit: &str) -> String {
    match unit {
        "s" => duration(value),
        "bytes" => scaled(value, 1024.0, &["B", "KiB", "MiB", "GiB"]),
        "percentunit" => format!("{}%", short(value * 100.0)),
        "ops" | "pps" => format!("{}/s", short(value)),
        _ => short(value),
    }
}

fn duration(seconds: f64) -> String {
    let (value, unit) = match seconds.abs() {
        0.0 => return "0".to_owned(),
        small if small < 1e-3 => (seconds * 1e6, "µs"),
        small if small < 1.0 => (seconds * 1e3, "ms"),
        small if small < 120.0 => (seconds, "s"),
        small if small < 7200.0 => (seconds / 60.0, "min"),
        _ => (seconds / 3600.0, "h"),
    };
    format!("{} {unit}", short(value))
}

fn scaled(value: f64, step: f64, units: &[&str]) -> String {
    let mut value = value;
    let mut units = units.iter().peekable();
    while let Some(unit) = units.next() {
        if value.abs() < step || units.peek().is_none() {
            return format!("{} {unit}", short(value));
        }
        value /= step;
    }
    short(value)
}

/// Three digits that matter, without noughts at the end.
fn short(value: f64) -> String {
    if !value.is_finite() {
        return value.to_string();
    }
    if value.abs() >= 10_000.0 {
        return scaled(value, 1000.0, &["", "k", "M", "G"]).replace(' ', "");
    }
    let whole = value.abs().max(1e-9).log10().floor() as i32 + 1;
    let digits = usize::try_from(3 - whole).unwrap_or_default().min(4);
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// An axis from zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Scale {
    /// Where it ends.
    pub(crate) top: f64,
    step: f64,
}

impl Scale {
    /// One on which this value fits, with marks at round values.
    pub(crate) fn over(most: f64) -> Scale {
        if most <= 0.0 {
            return Scale { top: 1.0, step: 0.5 };
        }
        let rough = most / 4.0;
        let power = 10f64.powf(rough.log10().floor());
        let steps = [1.0, 2.0, 2.5, 5.0, 10.0].map(|step| step * power);
        let step = steps.into_iter().find(|step| *step >= rough * 0.999_999).unwrap_or(rough);
        Scale { top: step * (most / step - 1e-6).ceil(), step }
    }

    /// Its marks, from zero on.
    pub(crate) fn marks(self) -> impl Iterator<Item = f64> {
        let count = (self.top / self.step).round() as u32;
        (0..=count).map(move |mark| f64::from(mark) * self.step)
    }
}
