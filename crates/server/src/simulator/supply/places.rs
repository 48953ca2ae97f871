//! The ranges reserved for fiction, with where they are at home: area codes of the United States and Canada, Ofcom's
//! drama numbers, ARCEP's numbers for audiovisual works. Data only.

use super::{NumberKind, Place, Range};

/// Area code or prefix, locality, region, postal code, latitude, longitude.
type Row = (&'static str, &'static str, &'static str, &'static str, &'static str, &'static str);

/// 555-0100 to 555-0199 in each.
const UNITED_STATES: &[Row] = &[
    ("212", "New York", "NY", "10001", "40.750000", "-73.990000"),
    ("718", "Brooklyn", "NY", "11201", "40.690000", "-73.990000"),
    ("516", "Hempstead", "NY", "11550", "40.700000", "-73.620000"),
    ("585", "Rochester", "NY", "14604", "43.160000", "-77.610000"),
    ("415", "San Francisco", "CA", "94102", "37.780000", "-122.420000"),
    ("510", "Oakland", "CA", "94607", "37.800000", "-122.280000"),
    ("650", "Palo Alto", "CA", "94301", "37.440000", "-122.150000"),
    ("408", "San Jose", "CA", "95113", "37.330000", "-121.890000"),
    ("213", "Los Angeles", "CA", "90012", "34.060000", "-118.240000"),
    ("310", "Santa Monica", "CA", "90401", "34.020000", "-118.490000"),
    ("619", "San Diego", "CA", "92101", "32.720000", "-117.160000"),
    ("916", "Sacramento", "CA", "95814", "38.580000", "-121.490000"),
    ("312", "Chicago", "IL", "60602", "41.880000", "-87.630000"),
    ("773", "Chicago", "IL", "60614", "41.920000", "-87.650000"),
    ("617", "Boston", "MA", "02108", "42.360000", "-71.060000"),
    ("508", "Worcester", "MA", "01608", "42.260000", "-71.800000"),
    ("202", "Washington", "DC", "20001", "38.910000", "-77.020000"),
    ("206", "Seattle", "WA", "98101", "47.610000", "-122.330000"),
    ("509", "Spokane", "WA", "99201", "47.660000", "-117.420000"),
    ("503", "Portland", "OR", "97204", "45.520000", "-122.680000"),
    ("303", "Denver", "CO", "80202", "39.750000", "-104.990000"),
    ("719", "Colorado Springs", "CO", "80903", "38.830000", "-104.820000"),
    ("602", "Phoenix", "AZ", "85004", "33.450000", "-112.070000"),
    ("520", "Tucson", "AZ", "85701", "32.220000", "-110.970000"),
    ("702", "Las Vegas", "NV", "89101", "36.170000", "-115.140000"),
    ("801", "Salt Lake City", "UT", "84101", "40.760000", "-111.890000"),
    ("512", "Austin", "TX", "78701", "30.270000", "-97.740000"),
    ("214", "Dallas", "TX", "75201", "32.790000", "-96.800000"),
    ("713", "Houston", "TX", "77002", "29.760000", "-95.370000"),
    ("210", "San Antonio", "TX", "78205", "29.420000", "-98.490000"),
    ("305", "Miami", "FL", "33131", "25.770000", "-80.190000"),
    ("407", "Orlando", "FL", "32801", "28.540000", "-81.380000"),
    ("813", "Tampa", "FL", "33602", "27.950000", "-82.460000"),
    ("904", "Jacksonville", "FL", "32202", "30.330000", "-81.660000"),
    ("404", "Atlanta", "GA", "30303", "33.750000", "-84.390000"),
    ("704", "Charlotte", "NC", "28202", "35.230000", "-80.840000"),
    ("919", "Raleigh", "NC", "27601", "35.780000", "-78.640000"),
    ("615", "Nashville", "TN", "37203", "36.160000", "-86.780000"),
    ("901", "Memphis", "TN", "38103", "35.150000", "-90.050000"),
    ("502", "Louisville", "KY", "40202", "38.250000", "-85.760000"),
    ("216", "Cleveland", "OH", "44113", "41.480000", "-81.700000"),
    ("614", "Columbus", "OH", "43215", "39.960000", "-83.000000"),
    ("313", "Detroit", "MI", "48226", "42.330000", "-83.050000"),
    ("612", "Minneapolis", "MN", "55401", "44.980000", "-93.270000"),
    ("414", "Milwaukee", "WI", "53202", "43.050000", "-87.900000"),
    ("314", "St. Louis", "MO", "63101", "38.630000", "-90.200000"),
    ("816", "Kansas City", "MO", "64106", "39.100000", "-94.580000"),
    ("504", "New Orleans", "LA", "70112", "29.960000", "-90.080000"),
    ("405", "Oklahoma City", "OK", "73102", "35.470000", "-97.520000"),
    ("505", "Albuquerque", "NM", "87102", "35.080000", "-106.650000"),
    ("215", "Philadelphia", "PA", "19107", "39.950000", "-75.160000"),
    ("412", "Pittsburgh", "PA", "15222", "40.440000", "-80.000000"),
    ("410", "Baltimore", "MD", "21202", "39.290000", "-76.610000"),
    ("804", "Richmond", "VA", "23219", "37.540000", "-77.440000"),
    ("201", "Jersey City", "NJ", "07302", "40.720000", "-74.040000"),
    ("203", "New Haven", "CT", "06510", "41.310000", "-72.930000"),
    ("401", "Providence", "RI", "02903", "41.820000", "-71.410000"),
    ("207", "Portland", "ME", "04101", "43.660000", "-70.260000"),
    ("802", "Burlington", "VT", "05401", "44.480000", "-73.210000"),
    ("907", "Anchorage", "AK", "99501", "61.220000", "-149.900000"),
    ("808", "Honolulu", "HI", "96813", "21.310000", "-157.860000"),
];

/// 555-0100 to 555-0199 in each.
const CANADA: &[Row] = &[
    ("514", "Montreal", "QC", "H2Y", "45.510000", "-73.550000"),
    ("438", "Montreal", "QC", "H3B", "45.500000", "-73.570000"),
    ("418", "Quebec", "QC", "G1R", "46.810000", "-71.210000"),
    ("819", "Gatineau", "QC", "J8X", "45.430000", "-75.710000"),
    ("416", "Toronto", "ON", "M5H", "43.650000", "-79.380000"),
    ("647", "Toronto", "ON", "M4W", "43.670000", "-79.390000"),
    ("905", "Mississauga", "ON", "L5B", "43.590000", "-79.640000"),
    ("613", "Ottawa", "ON", "K1P", "45.420000", "-75.700000"),
    ("519", "London", "ON", "N6A", "42.980000", "-81.250000"),
    ("604", "Vancouver", "BC", "V6B", "49.280000", "-123.120000"),
    ("250", "Victoria", "BC", "V8W", "48.430000", "-123.370000"),
    ("403", "Calgary", "AB", "T2P", "51.050000", "-114.070000"),
    ("780", "Edmonton", "AB", "T5J", "53.540000", "-113.490000"),
    ("204", "Winnipeg", "MB", "R3C", "49.900000", "-97.140000"),
    ("306", "Saskatoon", "SK", "S7K", "52.130000", "-106.670000"),
    ("902", "Halifax", "NS", "B3J", "44.650000", "-63.580000"),
    ("506", "Moncton", "NB", "E1C", "46.090000", "-64.780000"),
    ("709", "St. John's", "NL", "A1C", "47.560000", "-52.710000"),
];

/// A thousand numbers in each.
const UNITED_KINGDOM: &[Row] = &[
    ("+44113496", "Leeds", "England", "LS1", "53.800000", "-1.550000"),
    ("+44114496", "Sheffield", "England", "S1", "53.380000", "-1.470000"),
    ("+44115496", "Nottingham", "England", "NG1", "52.950000", "-1.150000"),
    ("+44116496", "Leicester", "England", "LE1", "52.640000", "-1.130000"),
    ("+44117496", "Bristol", "England", "BS1", "51.450000", "-2.590000"),
    ("+44118496", "Reading", "England", "RG1", "51.460000", "-0.970000"),
    ("+44121496", "Birmingham", "England", "B1", "52.480000", "-1.900000"),
    ("+44131496", "Edinburgh", "Scotland", "EH1", "55.950000", "-3.190000"),
    ("+44141496", "Glasgow", "Scotland", "G1", "55.860000", "-4.250000"),
    ("+44151496", "Liverpool", "England", "L1", "53.410000", "-2.980000"),
    ("+44161496", "Manchester", "England", "M1", "53.480000", "-2.240000"),
    ("+44191498", "Newcastle upon Tyne", "England", "NE1", "54.970000", "-1.610000"),
    ("+44207946", "London", "England", "EC1A", "51.510000", "-0.130000"),
    ("+44292018", "Cardiff", "Wales", "CF10", "51.480000", "-3.180000"),
];

/// Ten thousand numbers in each.
const FRANCE: &[Row] = &[
    ("+3319900", "Paris", "Île-de-France", "75001", "48.860000", "2.350000"),
    ("+3326191", "Rennes", "Bretagne", "35000", "48.110000", "-1.680000"),
    ("+3335301", "Strasbourg", "Grand Est", "67000", "48.580000", "7.750000"),
    ("+3346571", "Lyon", "Auvergne-Rhône-Alpes", "69001", "45.770000", "4.830000"),
    ("+3353649", "Bordeaux", "Nouvelle-Aquitaine", "33000", "44.840000", "-0.580000"),
];

/// 555-0100 to 555-0199 in each, sold in the United States and Canada alike.
const TOLL_FREE_CODES: [&str; 7] = ["800", "833", "844", "855", "866", "877", "888"];

/// Every range that the simulated carrier sells from.
pub(super) fn ranges() -> Vec<Range> {
    let mut out = Vec::new();
    for (country, rows) in [("US", UNITED_STATES), ("CA", CANADA)] {
        for row in rows {
            out.push(north_american(country, NumberKind::Local, row.0, Some(place(row))));
        }
        for code in TOLL_FREE_CODES {
            out.push(north_american(country, NumberKind::TollFree, code, None));
        }
    }
    for row in UNITED_KINGDOM {
        out.push(plain("GB", NumberKind::Local, row.0, 4, 0, 1_000, Some(place(row))));
    }
    out.push(plain("GB", NumberKind::Mobile, "+447700", 6, 900_000, 1_000, None));
    out.push(plain("GB", NumberKind::TollFree, "+44808157", 4, 0, 1_000, None));
    out.push(plain("GB", NumberKind::National, "+443069", 6, 990_000, 1_000, None));
    for row in FRANCE {
        out.push(plain("FR", NumberKind::Local, row.0, 4, 0, 10_000, Some(place(row))));
    }
    out.push(plain("FR", NumberKind::Mobile, "+3363998", 4, 0, 10_000, None));
    out
}

fn place(row: &Row) -> Place {
    let &(_, locality, region, postal_code, latitude, longitude) = row;
    Place { locality, region, postal_code, latitude, longitude }
}

fn north_american(
    country: &'static str,
    kind: NumberKind,
    area_code: &'static str,
    place: Option<Place>,
) -> Range {
    Range {
        area_code: Some(area_code),
        ..plain(country, kind, &format!("+1{area_code}555"), 4, 100, 100, place)
    }
}

fn plain(
    country: &'static str,
    kind: NumberKind,
    prefix: &str,
    digits: usize,
    first: u32,
    count: u32,
    place: Option<Place>,
) -> Range {
    Range { country, kind, prefix: prefix.to_owned(), digits, first, count, area_code: None, place }
}
