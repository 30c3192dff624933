//! Which networks a project trains.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// `[model]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Model {
    /// Which network it is, or the members of a committee.
    pub networks: Networks,
    /// How wide it is: 64 is what each network was published with. The paper's has 31,030,788 parameters then.
    pub base_channels: usize,
    /// Slices that it sees at every place, those beside a slice as further channels: 1 (the slice alone), 3, 5 ..
    pub slices: usize,
    /// Whether the U-shape network is taught at its lower levels too (deep supervision).
    pub deep_supervision: bool,
}

impl Default for Model {
    fn default() -> Self {
        Model {
            networks: Networks::default(),
            base_channels: 16,
            slices: 1,
            deep_supervision: false,
        }
    }
}

impl Model {
    /// The key that cannot be as it is, its value, and what it has to be.
    pub(super) fn problem(&self) -> Option<(&'static str, String, &'static str)> {
        let has_unet = self.networks.members().any(|member| member == Network::UNet);
        if self.deep_supervision && !has_unet {
            let remedy =
                "has to be false without \"u-net\" in model.networks: it is the one that is taught so";
            return Some(("model.deep_supervision", "true".into(), remedy));
        }
        if self.slices.is_multiple_of(2) || self.slices > 9 {
            return Some((
                "model.slices",
                self.slices.to_string(),
                "has to be 1, 3, 5, 7 or 9",
            ));
        }
        if self.base_channels > 512 {
            return Some((
                "model.base_channels",
                self.base_channels.to_string(),
                "has to be at most 512",
            ));
        }
        None
    }
}

/// Members of a committee at most.
const MOST: usize = 4;

/// One network, or a committee of up to four, which may be of one kind: each begins with weights of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Network>", into = "Vec<Network>")]
pub struct Networks {
    first: Network,
    others: [Option<Network>; MOST - 1],
}

impl Networks {
    /// A network by itself.
    pub const fn one(network: Network) -> Networks {
        Networks {
            first: network,
            others: [None; MOST - 1],
        }
    }

    /// Every member.
    pub fn members(&self) -> impl Iterator<Item = Network> {
        [self.first].into_iter().chain(self.others.into_iter().flatten())
    }

    /// The members' names, numbered where several are of one kind.
    pub fn names(&self) -> Vec<String> {
        let of_kind = |network| self.members().filter(|other| *other == network).count();
        let name = |(n, network): (usize, Network)| match of_kind(network) {
            1 => network.name().to_string(),
            _ => {
                let before = self.members().take(n).filter(|other| *other == network).count();
                format!("{} {}", network.name(), before + 1)
            }
        };
        self.members().enumerate().map(name).collect()
    }

    /// Whether all members are of one kind.
    pub fn is_uniform(&self) -> bool {
        self.members().all(|member| member == self.first)
    }

    /// The first member by itself.
    pub fn first(&self) -> Networks {
        Networks::one(self.first)
    }

    /// Whether there are several.
    pub fn is_committee(&self) -> bool {
        self.others[0].is_some()
    }
}

impl Default for Networks {
    fn default() -> Networks {
        Networks::one(Network::UNet)
    }
}

impl TryFrom<Vec<Network>> for Networks {
    type Error = String;

    fn try_from(list: Vec<Network>) -> Result<Networks, String> {
        match list[..] {
            [first, ref others @ ..] if others.len() < MOST => Ok(Networks {
                first,
                others: std::array::from_fn(|n| others.get(n).copied()),
            }),
            _ => Err(format!(
                "networks has {} members; it has to have 1 to {MOST}",
                list.len()
            )),
        }
    }
}

impl From<Networks> for Vec<Network> {
    fn from(networks: Networks) -> Vec<Network> {
        networks.members().collect()
    }
}

impl FromStr for Networks {
    type Err = String;

    /// Names with `+` between them.
    fn from_str(text: &str) -> Result<Networks, String> {
        let list = text.split('+').map(Network::from_str);
        list.collect::<Result<Vec<_>, _>>()?.try_into()
    }
}

impl std::fmt::Display for Networks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.members().map(Network::name).collect();
        f.write_str(&names.join("+"))
    }
}

/// Which network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// The paper's U-shape network, slice by slice.
    #[default]
    UNet,
    /// Residual modules over stacks of slices (Chen et al. 2018).
    #[serde(rename = "voxresnet")]
    VoxResNet,
    /// Three patches around every pixel (Moeskops et al. 2016).
    MultiScale,
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Network, String> {
        let all = [Network::UNet, Network::VoxResNet, Network::MultiScale];
        let known = all.into_iter().find(|network| network.name() == text);
        known.ok_or_else(|| format!("{text:?} is none of {}", all.map(Network::name).join(", ")))
    }
}

impl Network {
    /// What settings call it.
    pub fn name(self) -> &'static str {
        match self {
            Network::UNet => "u-net",
            Network::VoxResNet => "voxresnet",
            Network::MultiScale => "multi-scale",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_network_cannot_be_is_told_with_its_key() {
        let with = |change: fn(&mut Model)| {
            let mut model = Model::default();
            change(&mut model);
            model.problem().map(|(key, ..)| key)
        };
        assert_eq!(with(|_| ()), None);
        assert_eq!(with(|model| model.slices = 2), Some("model.slices"));
        assert_eq!(with(|model| model.slices = 11), Some("model.slices"));
        assert_eq!(
            with(|model| model.base_channels = 513),
            Some("model.base_channels")
        );
        let deep = |model: &mut Model| {
            model.networks = Networks::one(Network::VoxResNet);
            model.deep_supervision = true;
        };
        assert_eq!(with(deep), Some("model.deep_supervision"));
        assert_eq!(with(|model| model.deep_supervision = true), None);
    }

    #[test]
    fn a_committee_has_one_to_four_members_and_reads_as_it_is_written() {
        let networks: Networks = "u-net+voxresnet+u-net".parse().unwrap();
        assert_eq!(networks.to_string(), "u-net+voxresnet+u-net");
        assert!(networks.is_committee() && !Networks::default().is_committee());
        assert_eq!(networks.members().count(), 3);
        assert_eq!(networks.names(), ["u-net 1", "voxresnet", "u-net 2"]);
        let wrong = |text: &str| text.parse::<Networks>().unwrap_err();
        assert!(wrong("u-net+resnet").contains("\"resnet\" is none of u-net, voxresnet, multi-scale"));
        assert!(wrong("u-net+u-net+u-net+u-net+u-net").contains("5 members"));
        assert!(Networks::try_from(Vec::new()).is_err());
    }
}
