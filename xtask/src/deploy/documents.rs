//! Checks that the `docker compose` commands in the documentation name existing services.

use std::collections::BTreeSet;

use testkit::documents::{self, Documented};

use crate::workspace;

/// Flags of `docker compose` itself that take a value.
const WITH_VALUE: [&str; 5] = ["--profile", "-f", "--file", "-p", "--project-name"];
/// Flags of its subcommands that take a value.
const VERB_WITH_VALUE: [&str; 7] = ["--tail", "--since", "-e", "--env", "-t", "--timeout", "-s"];

/// Reports names that are not in `services`.
pub(super) fn check(services: &BTreeSet<String>) -> Vec<String> {
    let mut complaints = Vec::new();
    for (page, commands) in documents::pages(workspace::root()) {
        for command in commands {
            let unknown = named(&command).into_iter().filter(|name| !services.contains(name));
            complaints.extend(unknown.map(|name| {
                format!("{page}:{}: {name:?} is not a service of docker-compose.yml", command.line)
            }));
        }
    }
    complaints
}

/// The services that a command names, by service name or by container name.
fn named(command: &Documented) -> Vec<String> {
    let words: Vec<&str> = command.words.iter().map(String::as_str).collect();
    let arguments = match words[..] {
        ["docker", "compose", ref rest @ ..] | ["docker-compose", ref rest @ ..] => rest,
        ["docker", ..] => return words.iter().filter_map(|word| of_container(word)).collect(),
        _ => return Vec::new(),
    };
    let mut rest = arguments.iter();
    let verb = loop {
        match rest.next() {
            Some(flag) if WITH_VALUE.contains(flag) => drop(rest.next()),
            Some(flag) if flag.starts_with('-') => {}
            Some(verb) => break *verb,
            None => return Vec::new(),
        }
    };
    let mut services = Vec::new();
    while let Some(word) = rest.next() {
        if *word == "--scale" {
            services.extend(rest.next().and_then(|value| value.split('=').next()));
        } else if VERB_WITH_VALUE.contains(word) {
            rest.next();
        } else if !word.starts_with('-') {
            services.push(*word);
            // The words after the service are a command to run inside it.
            if matches!(verb, "exec" | "run") {
                break;
            }
        }
    }
    services.into_iter().map(str::to_owned).collect()
}

/// `redis` of `flash-sale-engine-redis-1`, also if `:/path` follows.
fn of_container(word: &str) -> Option<String> {
    let name = word.split(':').next()?.strip_prefix("flash-sale-engine-")?;
    let (service, number) = name.rsplit_once('-')?;
    number.parse::<u32>().ok().map(|_| service.to_owned())
}

#[cfg(test)]
mod tests {
    use super::named;
    use testkit::documents::commands;

    fn of(line: &str) -> Vec<String> {
        commands(&format!("```\n{line}\n```")).iter().flat_map(named).collect()
    }

    #[test]
    fn services_are_found_in_every_command_form() {
        assert_eq!(of("docker exec flash-sale-engine-redis-1 redis-cli GET inventory:101"), ["redis"]);
        assert_eq!(of("docker cp flash-sale-engine-redis-1:/data/dump.rdb ./x.rdb"), ["redis"]);
        assert_eq!(of("docker-compose logs gateway | grep -i circuit"), ["gateway"]);
        assert_eq!(of("docker compose exec gateway env | grep RATE_LIMIT"), ["gateway"]);
        assert_eq!(of("docker compose --profile kafka up -d --scale redpanda=0"), ["redpanda"]);
        assert_eq!(
            of("docker compose up -d --scale gateway=2 --scale processor=3"),
            ["gateway", "processor"]
        );
        assert_eq!(of("docker compose logs --tail 20 -f processor"), ["processor"]);
        assert_eq!(of("docker compose run --rm loadgen audit"), ["loadgen"]);
        assert_eq!(of("docker compose down"), Vec::<String>::new());
        assert_eq!(
            of("docker run --rm -v flash-sale-engine_redpanda-data:/data alpine tar"),
            Vec::<String>::new()
        );
    }
}
