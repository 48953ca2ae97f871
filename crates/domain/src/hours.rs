//! Hours: when a number answers as usual, in its own time zone, with holidays. The zone data is compiled in; nothing is read
//! from the system. A [`Zone`] is a checked name; [`Zone::resolve`] turns it into rules once, when routes are built.

use std::fmt;

use jiff::civil::{Date, DateTime, Weekday};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use serde::{Deserialize, Serialize};

use crate::error::{Code, Refusal, shown};
use crate::fallback::Fallback;

/// The most ranges in one day.
pub const RANGES_PER_DAY_MAX: usize = 6;
/// The most holidays of one number.
pub const HOLIDAYS_MAX: usize = 100;
/// Minutes in a day.
const DAY_MINUTES: u16 = 24 * 60;

/// A time zone by its name in the IANA database, known to exist.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Zone(String);

impl Zone {
    /// UTC.
    pub fn utc() -> Zone {
        Zone("UTC".to_owned())
    }

    /// Reads a name such as `America/Toronto`. Fixed offsets and abbreviations like `EST5` are refused: they know no
    /// daylight saving.
    pub fn parse(text: &str) -> Result<Zone, Refusal> {
        let refuse = || {
            Refusal::new(
                Code::BadTimeZone,
                format!(
                    "{} is not a time zone of the IANA database; send a name such as America/Toronto, Europe/Paris or UTC",
                    shown(text)
                ),
            )
        };
        if text.len() > 64 || (text != "UTC" && !text.contains('/')) {
            return Err(refuse());
        }
        let zone = TimeZoneDatabase::bundled().get(text).map_err(|_| refuse())?;
        Ok(Zone(zone.iana_name().unwrap_or(text).to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The rules of the zone.
    pub fn resolve(&self) -> TimeZone {
        TimeZoneDatabase::bundled().get(&self.0).unwrap_or(TimeZone::UTC)
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Minutes since midnight, local time: `09:00` is 540; `24:00` ends a day.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Minute(u16);

impl Minute {
    /// Reads `HH:MM`.
    pub fn parse(text: &str) -> Result<Minute, Refusal> {
        let refuse = || {
            Refusal::new(
                Code::BadSchedule,
                format!("{} is not a time of day; send HH:MM from 00:00 to 24:00", shown(text)),
            )
        };
        let (hour, minute) = text.split_once(':').ok_or_else(refuse)?;
        if hour.len() != 2 || minute.len() != 2 || !text.bytes().all(|b| b.is_ascii_digit() || b == b':') {
            return Err(refuse());
        }
        let (hour, minute): (u16, u16) =
            (hour.parse().map_err(|_| refuse())?, minute.parse().map_err(|_| refuse())?);
        let total = hour * 60 + minute;
        (minute < 60 && total <= DAY_MINUTES).then_some(Minute(total)).ok_or_else(refuse)
    }
}

impl fmt::Display for Minute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

impl fmt::Debug for Minute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Minute {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Minute {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Minute::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// Open from a minute until, and not including, another of the same day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// The first minute.
    pub from: Minute,
    /// The end.
    pub to: Minute,
}

crate::words! {
    /// The days of the week.
    Day, "day" {
        /// Monday.
        Monday = "monday",
        /// Tuesday.
        Tuesday = "tuesday",
        /// Wednesday.
        Wednesday = "wednesday",
        /// Thursday.
        Thursday = "thursday",
        /// Friday.
        Friday = "friday",
        /// Saturday.
        Saturday = "saturday",
        /// Sunday.
        Sunday = "sunday",
    }
}

impl Day {
    pub(crate) fn of(weekday: Weekday) -> Day {
        Day::ALL[usize::try_from(weekday.to_monday_zero_offset()).expect("0 to 6")]
    }
}

/// A date that has hours of its own: none (closed all day) or some.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holiday {
    /// The date, local.
    pub date: Date,
    /// What people call it.
    pub name: String,
    /// When it is open nevertheless.
    #[serde(default)]
    pub open: Vec<Range>,
}

/// The opening hours of a number. Without any, it is always open.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hours {
    /// Open ranges by day of the week, Monday first.
    pub week: [Vec<Range>; 7],
    /// Dates that differ, in order.
    #[serde(default)]
    pub holidays: Vec<Holiday>,
    /// What happens outside the hours; without it, the fallback chain.
    #[serde(default)]
    pub closed: Option<Fallback>,
}

/// Whether a number is open at a moment, and by which rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// Within the hours of the day.
    Open,
    /// Outside the hours of the day.
    ClosedByWeek,
    /// A holiday, given by its place in [`Hours::holidays`].
    ClosedByHoliday(usize),
}

impl Hours {
    /// Checks the whole: ranges forwards, apart and in order, each date once.
    pub fn check(mut self) -> Result<Hours, Refusal> {
        for (day, ranges) in Day::ALL.iter().zip(&mut self.week) {
            check_ranges(day.as_str(), ranges)?;
        }
        if self.holidays.len() > HOLIDAYS_MAX {
            return Err(Refusal::new(
                Code::TooMany,
                format!("there are {} holidays; at most {HOLIDAYS_MAX} are kept", self.holidays.len()),
            ));
        }
        self.holidays.sort_by_key(|holiday| holiday.date);
        if let Some(pair) = self.holidays.windows(2).find(|pair| pair[0].date == pair[1].date) {
            return Err(Refusal::new(
                Code::BadSchedule,
                format!("the holiday {} stands twice; put its ranges into one entry", pair[0].date),
            ));
        }
        for holiday in &mut self.holidays {
            check_ranges(&holiday.date.to_string(), &mut holiday.open)?;
        }
        Ok(self)
    }

    /// Whether a moment of local time is within the hours. Allocates nothing.
    pub fn opening(&self, local: DateTime) -> Opening {
        let minute = Minute(
            u16::try_from(i32::from(local.hour()) * 60 + i32::from(local.minute())).expect("a time of day"),
        );
        let within = |ranges: &[Range]| ranges.iter().any(|range| range.from <= minute && minute < range.to);
        if let Ok(place) = self.holidays.binary_search_by_key(&local.date(), |holiday| holiday.date) {
            return if within(&self.holidays[place].open) {
                Opening::Open
            } else {
                Opening::ClosedByHoliday(place)
            };
        }
        let day = Day::of(local.weekday());
        if within(&self.week[day as usize]) { Opening::Open } else { Opening::ClosedByWeek }
    }
}

/// Checks the ranges of one day, and sorts them.
pub fn check_ranges(day: &str, ranges: &mut [Range]) -> Result<(), Refusal> {
    if ranges.len() > RANGES_PER_DAY_MAX {
        return Err(Refusal::new(
            Code::TooMany,
            format!("{day} has {} ranges; at most {RANGES_PER_DAY_MAX} are kept", ranges.len()),
        ));
    }
    ranges.sort_by_key(|range| range.from);
    if let Some(range) = ranges.iter().find(|range| range.to <= range.from) {
        return Err(Refusal::new(
            Code::BadSchedule,
            format!(
                "{day} {}–{} ends before it starts; for a night, end at 24:00 and start the next day at 00:00",
                range.from, range.to
            ),
        ));
    }
    if let Some(pair) = ranges.windows(2).find(|pair| pair[1].from < pair[0].to) {
        return Err(Refusal::new(
            Code::BadSchedule,
            format!(
                "{day} {}–{} and {}–{} overlap; write them as one range",
                pair[0].from, pair[0].to, pair[1].from, pair[1].to
            ),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::{date, datetime};

    fn range(from: &str, to: &str) -> Range {
        Range { from: Minute::parse(from).unwrap(), to: Minute::parse(to).unwrap() }
    }

    fn office() -> Hours {
        let mut hours = Hours::default();
        for day in 0..5 {
            hours.week[day] = vec![range("13:00", "17:00"), range("09:00", "12:00")];
        }
        hours.holidays = vec![
            Holiday { date: date(2026, 12, 25), name: "Christmas".to_owned(), open: vec![] },
            Holiday {
                date: date(2026, 12, 24),
                name: "Christmas Eve".to_owned(),
                open: vec![range("09:00", "12:00")],
            },
        ];
        hours.check().unwrap()
    }

    #[test]
    fn open_within_ranges_and_closed_on_holidays() {
        let hours = office();
        for (at, opening) in [
            (datetime(2026, 11, 23, 8, 59, 59, 0), Opening::ClosedByWeek),
            (datetime(2026, 11, 23, 9, 0, 0, 0), Opening::Open),
            (datetime(2026, 11, 23, 12, 0, 0, 0), Opening::ClosedByWeek),
            (datetime(2026, 11, 23, 16, 59, 0, 0), Opening::Open),
            (datetime(2026, 11, 22, 10, 0, 0, 0), Opening::ClosedByWeek),
            (datetime(2026, 12, 24, 10, 0, 0, 0), Opening::Open),
            (datetime(2026, 12, 24, 14, 0, 0, 0), Opening::ClosedByHoliday(0)),
            (datetime(2026, 12, 25, 10, 0, 0, 0), Opening::ClosedByHoliday(1)),
        ] {
            assert_eq!(hours.opening(at), opening, "{at}");
        }
    }

    #[test]
    fn impossible_hours_are_refused() {
        let with = |ranges: Vec<Range>| {
            let mut hours = Hours::default();
            hours.week[0] = ranges;
            hours.check()
        };
        assert!(with(vec![range("22:00", "06:00")]).unwrap_err().detail.contains("24:00"));
        assert!(
            with(vec![range("09:00", "12:00"), range("11:00", "13:00")])
                .unwrap_err()
                .detail
                .contains("overlap")
        );
        for text in ["9:00", "24:01", "12:60", "noon", "", "12:00 "] {
            assert_eq!(Minute::parse(text).unwrap_err().code, Code::BadSchedule, "{text:?}");
        }
    }

    #[test]
    fn zones_come_from_the_compiled_database() {
        assert_eq!(Zone::parse("America/Toronto").unwrap().as_str(), "America/Toronto");
        for text in ["EST5", "Mars/Olympus", "", "+02:00", "EST"] {
            assert_eq!(Zone::parse(text).unwrap_err().code, Code::BadTimeZone, "{text:?}");
        }
    }
}
