//! A number's own settings as JSON: whom it answers (`inbound`) and when (`hours`).

use domain::caller::{CallerRules, LIST_MAX};
use domain::error::{Code, Refusal, shown};
use domain::hours::{Day, HOLIDAYS_MAX, Holiday, Hours, Minute, RANGES_PER_DAY_MAX, Range, check_ranges};
use domain::number::{Country, E164, LABEL_CHARS_MAX, parse_text};
use jiff::civil::Date;
use serde::Serialize;
use utoipa::ToSchema;

use super::endpoint::{FallbackIn, FallbackOut, Reading};
use super::fields::Json;
use super::schema;

/// Reads whom a number answers.
pub fn caller_rules(json: &Json<'_>) -> Option<CallerRules> {
    let rules = json.object(|fields| {
        let allow_countries =
            fields.optional("allow_countries", |json| json.array(LIST_MAX, Json::parse::<Country>));
        let block_countries =
            fields.optional("block_countries", |json| json.array(LIST_MAX, Json::parse::<Country>));
        let allow_numbers =
            fields.optional("allow_numbers", |json| json.array(LIST_MAX, Json::parse::<E164>));
        let block_numbers =
            fields.optional("block_numbers", |json| json.array(LIST_MAX, Json::parse::<E164>));
        let block_anonymous = fields.optional("block_anonymous", Json::boolean);
        Some(CallerRules {
            allow_countries: allow_countries.unwrap_or_default(),
            block_countries: block_countries.unwrap_or_default(),
            allow_numbers: allow_numbers.unwrap_or_default(),
            block_numbers: block_numbers.unwrap_or_default(),
            block_anonymous: block_anonymous.unwrap_or_default(),
        })
    })?;
    json.check(rules.check())
}

/// Reads when a number answers as usual.
pub fn hours(json: &Json<'_>, reading: &Reading<'_>) -> Option<Hours> {
    let hours = json.object(|fields| {
        let week = fields.required("week", |json| {
            json.object(|fields| {
                let week: Vec<Vec<Range>> = Day::ALL
                    .iter()
                    .map(|day| {
                        fields.optional(day.as_str(), |json| ranges(json, day.as_str())).unwrap_or_default()
                    })
                    .collect();
                <[Vec<Range>; 7]>::try_from(week).ok()
            })
        });
        let holidays = fields.optional("holidays", |json| json.array(HOLIDAYS_MAX, holiday));
        let closed = fields.optional("closed", |json| reading.fallback(json));
        Some(Hours { week: week?, holidays: holidays.unwrap_or_default(), closed })
    })?;
    json.check(hours.check())
}

/// The ranges of one day. They are checked here already, so that every bad day is told, and not only where all others are good.
fn ranges(json: &Json<'_>, day: &str) -> Option<Vec<Range>> {
    let mut ranges = json.array(RANGES_PER_DAY_MAX, |json| {
        json.object(|fields| {
            let from = fields.required("from", |json| json.text(Minute::parse));
            let to = fields.required("to", |json| json.text(Minute::parse));
            Some(Range { from: from?, to: to? })
        })
    })?;
    json.check(check_ranges(day, &mut ranges))?;
    Some(ranges)
}

fn holiday(json: &Json<'_>) -> Option<Holiday> {
    json.object(|fields| {
        let date = fields.required("date", |json| json.text(parse_date));
        let name = fields.required("name", |json| json.text(|text| parse_text(text, LABEL_CHARS_MAX)));
        let open = fields.optional("open", |json| ranges(json, "the holiday"));
        Some(Holiday { date: date?, name: name?, open: open.unwrap_or_default() })
    })
}

fn parse_date(text: &str) -> Result<Date, Refusal> {
    let looks_right = text.len() == 10;
    text.parse().ok().filter(|_| looks_right).ok_or_else(|| {
        Refusal::new(
            Code::BadSchedule,
            format!("{} is not a date; send YYYY-MM-DD, such as 2026-12-25", shown(text)),
        )
    })
}

/// Whom a number answers. Listed numbers are stronger than countries; blocking is stronger than allowing.
#[derive(Serialize, ToSchema)]
#[schema(as = CallerRules)]
pub struct CallerRulesOut {
    /// If any: only callers of these countries, and `allow_numbers`.
    #[schema(value_type = Vec<schema::CountryCode>)]
    allow_countries: Vec<Country>,
    /// Never callers of these countries, `allow_numbers` apart.
    #[schema(value_type = Vec<schema::CountryCode>)]
    block_countries: Vec<Country>,
    /// Always these.
    #[schema(value_type = Vec<schema::PhoneNumber>)]
    allow_numbers: Vec<E164>,
    /// Never these.
    #[schema(value_type = Vec<schema::PhoneNumber>)]
    block_numbers: Vec<E164>,
    /// Whether callers who withhold their number are refused.
    block_anonymous: bool,
}

/// Whom a number is to answer; what is left out is empty or false.
#[derive(ToSchema)]
#[schema(as = CallerRulesIn)]
#[expect(dead_code, reason = "says what `caller_rules` reads; a test compares")]
pub struct CallerRulesIn {
    /// If any: only callers of these countries, and `allow_numbers`.
    #[schema(value_type = Option<Vec<schema::CountryCode>>)]
    allow_countries: Option<Vec<String>>,
    /// Never callers of these countries, `allow_numbers` apart.
    #[schema(value_type = Option<Vec<schema::CountryCode>>)]
    block_countries: Option<Vec<String>>,
    /// Always these.
    #[schema(value_type = Option<Vec<schema::PhoneNumber>>)]
    allow_numbers: Option<Vec<String>>,
    /// Never these.
    #[schema(value_type = Option<Vec<schema::PhoneNumber>>)]
    block_numbers: Option<Vec<String>>,
    /// Whether callers who withhold their number are refused.
    block_anonymous: Option<bool>,
}

/// When a number answers as usual, in its own time zone.
#[derive(Serialize, ToSchema)]
#[schema(as = Hours)]
pub struct HoursOut {
    /// Open ranges by day; a day without any is closed.
    week: WeekOut,
    /// Dates that differ.
    holidays: Vec<HolidayOut>,
    /// What happens outside the hours; without it, the fallback chain.
    closed: Option<FallbackOut>,
}

/// Open ranges by day of the week.
#[derive(Serialize, ToSchema)]
#[schema(as = Week)]
pub struct WeekOut {
    /// Monday.
    monday: Vec<RangeOut>,
    /// Tuesday.
    tuesday: Vec<RangeOut>,
    /// Wednesday.
    wednesday: Vec<RangeOut>,
    /// Thursday.
    thursday: Vec<RangeOut>,
    /// Friday.
    friday: Vec<RangeOut>,
    /// Saturday.
    saturday: Vec<RangeOut>,
    /// Sunday.
    sunday: Vec<RangeOut>,
}

/// Open from a minute until, and not including, another of the same day.
#[derive(Serialize, ToSchema)]
#[schema(as = TimeRange, example = json!({"from": "09:00", "to": "17:30"}))]
pub struct RangeOut {
    /// The first minute: HH:MM.
    #[schema(example = "09:00")]
    from: String,
    /// The end: HH:MM, at most 24:00.
    #[schema(example = "17:30")]
    to: String,
}

/// A date that has hours of its own.
#[derive(Serialize, ToSchema)]
#[schema(as = Holiday)]
pub struct HolidayOut {
    /// The date, in the number's time zone.
    #[schema(example = "2026-12-25", format = Date)]
    date: String,
    /// What people call it.
    #[schema(example = "Christmas")]
    name: String,
    /// When it is open nevertheless; empty: closed all day.
    open: Vec<RangeOut>,
}

/// When a number is to answer as usual.
#[derive(ToSchema)]
#[schema(as = HoursIn)]
#[expect(dead_code, reason = "says what `hours` reads; a test compares")]
pub struct HoursIn {
    /// Open ranges by day; days left out are closed.
    week: WeekIn,
    /// Dates that differ.
    #[schema(max_items = 100)]
    holidays: Option<Vec<HolidayIn>>,
    /// What happens outside the hours; without it, the fallback chain.
    closed: Option<FallbackIn>,
}

/// Open ranges by day of the week; at most 6 a day.
#[derive(ToSchema)]
#[schema(as = WeekIn)]
#[expect(dead_code, reason = "says what `hours` reads; a test compares")]
pub struct WeekIn {
    /// Monday.
    monday: Option<Vec<RangeIn>>,
    /// Tuesday.
    tuesday: Option<Vec<RangeIn>>,
    /// Wednesday.
    wednesday: Option<Vec<RangeIn>>,
    /// Thursday.
    thursday: Option<Vec<RangeIn>>,
    /// Friday.
    friday: Option<Vec<RangeIn>>,
    /// Saturday.
    saturday: Option<Vec<RangeIn>>,
    /// Sunday.
    sunday: Option<Vec<RangeIn>>,
}

/// Open from a minute until, and not including, another of the same day.
#[derive(ToSchema)]
#[schema(as = TimeRangeIn)]
#[expect(dead_code, reason = "says what `ranges` reads; a test compares")]
pub struct RangeIn {
    /// The first minute: HH:MM.
    #[schema(example = "09:00")]
    from: String,
    /// The end: HH:MM, at most 24:00.
    #[schema(example = "17:30")]
    to: String,
}

/// A date that has hours of its own.
#[derive(ToSchema)]
#[schema(as = HolidayIn)]
#[expect(dead_code, reason = "says what `holiday` reads; a test compares")]
pub struct HolidayIn {
    /// The date, in the number's time zone.
    #[schema(example = "2026-12-25", format = Date)]
    date: String,
    /// What people call it.
    #[schema(example = "Christmas", max_length = 100)]
    name: String,
    /// When it is open nevertheless; left out: closed all day.
    open: Option<Vec<RangeIn>>,
}

impl From<&CallerRules> for CallerRulesOut {
    fn from(rules: &CallerRules) -> Self {
        CallerRulesOut {
            allow_countries: rules.allow_countries.clone(),
            block_countries: rules.block_countries.clone(),
            allow_numbers: rules.allow_numbers.clone(),
            block_numbers: rules.block_numbers.clone(),
            block_anonymous: rules.block_anonymous,
        }
    }
}

impl From<&Hours> for HoursOut {
    fn from(hours: &Hours) -> Self {
        let show = |ranges: &[Range]| -> Vec<RangeOut> {
            ranges
                .iter()
                .map(|range| RangeOut { from: range.from.to_string(), to: range.to.to_string() })
                .collect()
        };
        let [monday, tuesday, wednesday, thursday, friday, saturday, sunday] = &hours.week;
        HoursOut {
            week: WeekOut {
                monday: show(monday),
                tuesday: show(tuesday),
                wednesday: show(wednesday),
                thursday: show(thursday),
                friday: show(friday),
                saturday: show(saturday),
                sunday: show(sunday),
            },
            holidays: hours
                .holidays
                .iter()
                .map(|holiday| HolidayOut {
                    date: holiday.date.to_string(),
                    name: holiday.name.clone(),
                    open: show(&holiday.open),
                })
                .collect(),
            closed: hours.closed.as_ref().map(FallbackOut::from),
        }
    }
}
