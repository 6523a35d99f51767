//! `carrack ctl status`: the members in a table.

use anyhow::Result;
use carrack_store::etcd::client::{Address, ListedMember, MemberStatus};
use comfy_table::{Cell, CellAlignment, Color, Table, presets};
use serde_json::json;

use super::runs::Runs;
use super::{Access, address};

/// A member, and what it says of itself or why it says nothing.
struct Row {
    id: u64,
    name: String,
    place: String,
    is_learner: bool,
    runs: Vec<String>,
    status: Result<MemberStatus, String>,
}

/// Asks every member that the first one to answer knows of.
pub(super) async fn run(access: &Access) -> Result<()> {
    let client = access.any().await?;
    let (members, runs) = (client.members().await?, Runs::ask(&client).await?);
    let mut rows = Vec::new();
    for member in members {
        let runs = runs.of(member.id);
        rows.push(ask(access, member, runs).await);
    }
    rows.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
    match access.output {
        Some(_) => {
            println!("{}", serde_json::to_string_pretty(&rows.iter().map(Row::json).collect::<Vec<_>>())?)
        }
        None => println!("{}", table(&rows)),
    }
    let down = rows.iter().filter(|row| row.status.is_err()).count();
    if down > 0 { anyhow::bail!("{down} of {} members do not answer", rows.len()) } else { Ok(()) }
}

async fn ask(access: &Access, member: ListedMember, runs: Vec<String>) -> Row {
    // One that has no client address is alone, and was reached by its socket.
    let place = match member.client_urls.first() {
        Some(url) => address(url),
        None => access.addresses().swap_remove(0),
    };
    let status = async { anyhow::Ok(access.connect(&place).await?.status().await?) }.await;
    let shown = match &place {
        Address::Url(url) => url.clone(),
        Address::Socket(path) => path.display().to_string(),
    };
    let status = status.map_err(|error| format!("{error:#}"));
    Row { id: member.id, name: member.name, place: shown, is_learner: member.is_learner, runs, status }
}

impl Row {
    fn role(&self) -> &'static str {
        match &self.status {
            _ if self.is_learner => "learner",
            Err(_) => "unreachable",
            Ok(status) if status.leader == self.id => "leader",
            Ok(status) if status.leader == 0 => "no leader",
            Ok(_) => "follower",
        }
    }

    fn json(&self) -> serde_json::Value {
        let mut row = json!({
            "id": format!("{:x}", self.id), "name": self.name, "endpoint": self.place, "role": self.role(),
            "runs": self.runs,
        });
        match &self.status {
            Err(error) => row["error"] = json!(error),
            Ok(status) => {
                row["dbSize"] = json!(status.db_size);
                row["dbSizeInUse"] = json!(status.db_size_in_use);
                row["quota"] = json!(status.db_size_quota);
                row["raftTerm"] = json!(status.raft_term);
                row["raftIndex"] = json!(status.raft_index);
                row["raftAppliedIndex"] = json!(status.raft_applied_index);
                row["revision"] = json!(status.header.as_ref().map_or(0, |header| header.revision));
                row["errors"] = json!(status.errors);
            }
        }
        row
    }
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    let header = [
        "MEMBER",
        "ID",
        "ROLE",
        "ADDRESS",
        "DATA",
        "QUOTA USED",
        "TERM",
        "LOG",
        "BEHIND",
        "REVISION",
        "RUNS",
        "PROBLEMS",
    ];
    table.load_preset(presets::NOTHING).set_header(header);
    let newest = rows.iter().filter_map(|row| Some(row.status.as_ref().ok()?.raft_index)).max().unwrap_or(0);
    for row in rows {
        let mut cells =
            vec![Cell::new(&row.name), Cell::new(format!("{:x}", row.id)), role(row), Cell::new(&row.place)];
        match &row.status {
            Err(error) => {
                cells.extend((0..6).map(|_| Cell::new("-").set_alignment(CellAlignment::Right)));
                cells.extend([Cell::new(row.runs.join(", ")), Cell::new(error)]);
            }
            Ok(status) => {
                cells.extend(figures(status, newest));
                cells.extend([Cell::new(row.runs.join(", ")), Cell::new(status.errors.join("; "))]);
            }
        }
        table.add_row(cells);
    }
    table
}

fn role(row: &Row) -> Cell {
    let color = match row.role() {
        "leader" => Color::Green,
        "unreachable" | "no leader" => Color::Red,
        _ => Color::Reset,
    };
    Cell::new(row.role()).fg(color)
}

fn figures(status: &MemberStatus, newest: u64) -> Vec<Cell> {
    let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
    let part = status.db_size_in_use as f64 / (status.db_size_quota as f64).max(1.0);
    let revision = status.header.as_ref().map_or(0, |header| header.revision);
    vec![
        right(size(status.db_size)),
        right(format!("{:.1} %", part * 100.0)),
        right(status.raft_term.to_string()),
        right(status.raft_index.to_string()),
        right(newest.saturating_sub(status.raft_applied_index).to_string()),
        right(revision.to_string()),
    ]
}

/// Bytes as people read them: `12 kB`, `3.4 MB`.
pub(super) fn size(bytes: i64) -> String {
    let units = [(1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
    let bytes = bytes as f64;
    match units.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) if bytes / unit < 10.0 => format!("{:.1} {name}", bytes / unit),
        Some((unit, name)) => format!("{:.0} {name}", bytes / unit),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        let sizes = [0, 999, 1500, 12_345, 3_400_000, 8_589_934_592].map(size);
        assert_eq!(sizes, ["0 B", "999 B", "1.5 kB", "12 kB", "3.4 MB", "8.6 GB"]);
    }
}
