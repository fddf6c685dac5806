//! The joint distribution of level, verb, resource, code and size that the load follows.

use anyhow::{Context, Result, ensure};

use crate::random::Random;

/// Condensed from real audit events; the columns are explained in the file's first lines.
const PROFILE: &str = include_str!("../../profile.tsv");

/// All kinds of requests.
pub(crate) struct Profile {
    rows: Vec<Row>,
    /// Sum of the weights up to and including each row.
    cumulative: Vec<u64>,
}

/// One kind of request, which yields one event per stage.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) level: &'static str,
    pub(crate) verb: &'static str,
    /// In the plural; `None` for requests that name no resource.
    pub(crate) resource: Option<&'static str>,
    pub(crate) subresource: Option<&'static str>,
    pub(crate) code: u16,
    /// Names of the stages after RequestReceived.
    pub(crate) answers: Vec<&'static str>,
    /// One letter per kind of caller.
    pub(crate) callers: &'static [u8],
    pub(crate) weight: u64,
    /// Size at RequestReceived; a 401 has no such event.
    pub(crate) received: Option<Sizes>,
    pub(crate) answered: Sizes,
}

impl Profile {
    pub(crate) fn load() -> Result<Self> {
        let lines = PROFILE.lines().filter(|line| !line.starts_with('#'));
        let rows: Vec<Row> = lines
            .map(|line| Row::parse(line).with_context(|| format!("failed to read profile line {line:?}")))
            .collect::<Result<_>>()?;
        ensure!(!rows.is_empty(), "the profile is empty");
        let mut sum = 0;
        let cumulative = rows.iter().map(|row| {
            sum += row.weight;
            sum
        });
        Ok(Self { cumulative: cumulative.collect(), rows })
    }

    /// The next kind of request.
    pub(crate) fn draw(&self, random: &mut Random) -> &Row {
        let total = self.cumulative.last().copied().unwrap_or(1).max(1);
        let ticket = random.next() % total;
        &self.rows[self.cumulative.partition_point(|&sum| sum <= ticket)]
    }

    #[cfg(test)]
    pub(crate) fn rows(&self) -> &[Row] {
        &self.rows
    }
}

impl Row {
    fn parse(line: &'static str) -> Result<Self> {
        let columns: Vec<&'static str> = line.split('\t').collect();
        let [level, verb, resource, code, stages, callers, weight, received, answered] = columns[..] else {
            anyhow::bail!("expected 9 columns, but there are {}", columns.len());
        };
        let (resource, subresource) = match resource.split_once('/') {
            Some((resource, subresource)) => (Some(resource), Some(subresource)),
            None => (Some(resource).filter(|resource| *resource != "(non-resource)"), None),
        };
        let answers = stages.bytes().filter_map(|stage| match stage {
            b'S' => Some("ResponseStarted"),
            b'C' => Some("ResponseComplete"),
            _ => None,
        });
        let received =
            if received == "-" { None } else { Some(Sizes::parse(received, &[0.0, 0.5, 0.95, 1.0])?) };
        ensure!(received.is_some() == stages.starts_with('R'), "sizes and stages disagree");
        ensure!(!callers.is_empty(), "nobody calls");
        Ok(Self {
            level,
            verb,
            resource,
            subresource,
            code: code.parse()?,
            answers: answers.collect(),
            callers: callers.as_bytes(),
            weight: weight.parse()?,
            received,
            answered: Sizes::parse(answered, &[0.0, 0.5, 0.95, 0.99, 1.0])?,
        })
    }

    /// How many events one such request yields.
    #[cfg(test)]
    pub(crate) fn events(&self) -> u64 {
        self.answers.len() as u64 + u64::from(self.received.is_some())
    }
}

/// Event sizes in bytes at some quantiles, linear in between.
#[derive(Debug)]
pub(crate) struct Sizes(Vec<(f64, f64)>);

impl Sizes {
    fn parse(text: &str, quantiles: &[f64]) -> Result<Self> {
        let sizes: Vec<f64> = text.split(' ').map(str::parse).collect::<Result<_, _>>()?;
        ensure!(sizes.len() == quantiles.len(), "expected {} sizes", quantiles.len());
        ensure!(sizes.is_sorted(), "sizes must rise");
        Ok(Self(quantiles.iter().copied().zip(sizes).collect()))
    }

    /// The size at a quantile from 0 to 1, in bytes.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "sizes are small and positive"
    )]
    pub(crate) fn at(&self, quantile: f64) -> usize {
        let mut size = 0.0;
        for pair in self.0.windows(2) {
            let [(from, low), (to, high)] = [pair[0], pair[1]];
            if quantile >= from {
                size = low + (high - low) * ((quantile - from) / (to - from)).min(1.0);
            }
        }
        size as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_has_the_shares_of_real_clusters() {
        let profile = Profile::load().unwrap();
        let total: u64 = profile.rows().iter().map(|row| row.weight * row.events()).sum();
        let check = |name: &str, expect: f64, part: &dyn Fn(&Row) -> bool| {
            let matching = profile.rows().iter().filter(|row| part(row));
            let share = matching.map(|row| row.weight * row.events()).sum::<u64>() as f64 / total as f64;
            assert!((share - expect).abs() < 0.03, "{name} is {share:.3}, not {expect}");
        };
        check("Metadata", 0.78, &|row| row.level == "Metadata");
        check("get", 0.40, &|row| row.verb == "get");
        check("update", 0.18, &|row| row.verb == "update");
        check("create", 0.17, &|row| row.verb == "create");
        check("watch", 0.10, &|row| row.verb == "watch");
        check("list", 0.08, &|row| row.verb == "list");
        check("patch", 0.06, &|row| row.verb == "patch");
        check("403", 0.015, &|row| row.code == 403);
        check("401", 0.005, &|row| row.code == 401);
        check("endpoints", 0.05, &|row| row.resource == Some("endpoints"));
        assert!(profile.rows().iter().all(|row| row.code != 401 || row.received.is_none()));
    }

    #[test]
    fn sizes_are_linear_between_quantiles() {
        let sizes = Sizes::parse("100 200 300 1000", &[0.0, 0.5, 0.95, 1.0]).unwrap();
        for (quantile, expect) in [(0.0, 100), (0.25, 150), (0.5, 200), (0.975, 650), (1.0, 1000)] {
            assert_eq!(sizes.at(quantile), expect, "{quantile}");
        }
        assert!(Sizes::parse("3 2 1 1", &[0.0, 0.5, 0.95, 1.0]).is_err());
    }
}
