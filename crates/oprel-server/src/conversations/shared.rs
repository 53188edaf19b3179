//! Conversations in a Redis, which several daemons share.
//!
//! A conversation is a hash (version, bytes, created, updated) and a list of messages; both go when it expires. Who
//! owns which is in a sorted set. The keys of an owner have one hash tag, so that they live on one node of a
//! cluster. What changes more than one of them is a script, which Redis runs undisturbed.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use redis::{Client, Connection, FromRedisValue, RedisResult, cmd};

use super::{Bounds, Error, Head, Item, Result, Store};
use crate::unix_s;

/// How long Redis may take to be reached, and to answer.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long it is left alone after it could not be reached: nobody waits for it meanwhile.
const REST: Duration = Duration::from_secs(1);
/// Connections that are kept.
const MOST_KEPT: usize = 16;

/// Keys: head, messages, the owner's set. Arguments: version, now, most messages, most bytes, seconds that it lasts,
/// id, messages.
const APPEND: &str = r"
local head = redis.call('HMGET', KEYS[1], 'version', 'bytes', 'created')
local version, bytes = tonumber(head[1] or '0'), tonumber(head[2] or '0')
local created = head[3] or ARGV[2]
if version ~= tonumber(ARGV[1]) then return {'conflict', version, 0, 0} end
for i = 7, #ARGV do
  bytes = bytes + #ARGV[i]
  if version >= tonumber(ARGV[3]) or bytes > tonumber(ARGV[4]) then return {'full', 0, 0, 0} end
  version = version + 1
end
if #ARGV >= 7 then
  for i = 7, #ARGV do redis.call('RPUSH', KEYS[2], ARGV[i]) end
end
redis.call('HSET', KEYS[1], 'version', version, 'bytes', bytes, 'created', created, 'updated', ARGV[2])
redis.call('ZADD', KEYS[3], 0, ARGV[6])
for i = 1, 3 do redis.call('EXPIRE', KEYS[i], ARGV[5]) end
return {'done', version, bytes, tonumber(created)}";

/// Keys: head, messages. The numbers of the head, then the messages; nothing if there is no conversation.
const GET: &str = r"
local head = redis.call('HMGET', KEYS[1], 'version', 'bytes', 'created', 'updated')
if not head[1] then return {} end
local all = {head[1], head[2], head[3], head[4]}
for _, item in ipairs(redis.call('LRANGE', KEYS[2], 0, -1)) do all[#all + 1] = item end
return all";

/// Keys: the owner's set, the beginning of a head's key. Arguments: after, most. Ids and numbers of heads; ids of
/// what has expired leave the set.
const LIST: &str = r"
local all, after, most = {}, ARGV[1], tonumber(ARGV[2])
while #all < 5 * most do
  local from = after == '' and '-' or '(' .. after
  local ids = redis.call('ZRANGEBYLEX', KEYS[1], from, '+', 'LIMIT', 0, most)
  if #ids == 0 then return all end
  for _, id in ipairs(ids) do
    after = id
    local head = redis.call('HMGET', KEYS[2] .. id, 'version', 'bytes', 'created', 'updated')
    if not head[1] then
      redis.call('ZREM', KEYS[1], id)
    elseif #all < 5 * most then
      all[#all + 1] = id
      for i = 1, 4 do all[#all + 1] = head[i] end
    end
  end
end
return all";

/// Keys: head, messages, the owner's set. Argument: id. Whether there was one.
const DELETE: &str = r"
redis.call('DEL', KEYS[2])
redis.call('ZREM', KEYS[3], ARGV[1])
return redis.call('DEL', KEYS[1])";

/// A store in a Redis.
pub struct Shared {
    client: Client,
    bounds: Bounds,
    idle: Mutex<Vec<Connection>>,
    /// It could not be reached; until when it is left alone, and why.
    rests: Mutex<Option<(Instant, String)>>,
}

fn unreachable(error: impl std::fmt::Display) -> Error {
    Error::Unreachable { why: error.to_string() }
}

impl Shared {
    /// A store at `redis://[user:password@]host[:port][/number]`. It need not be there yet.
    ///
    /// # Errors
    /// If that is no address.
    pub fn at(url: &str, bounds: Bounds) -> Result<Shared> {
        let client = Client::open(url).map_err(unreachable)?;
        Ok(Shared { client, bounds, idle: Mutex::default(), rests: Mutex::default() })
    }

    fn connect(&self) -> Result<Connection> {
        let mut rests = self.rests.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, why)) = rests.as_ref().filter(|(until, _)| Instant::now() < *until) {
            return Err(Error::Unreachable { why: why.clone() });
        }
        let connected = self.client.get_connection_with_timeout(PATIENCE).and_then(|connection| {
            connection.set_read_timeout(Some(PATIENCE))?;
            connection.set_write_timeout(Some(PATIENCE))?;
            Ok(connection)
        });
        *rests = connected.as_ref().err().map(|e| (Instant::now() + REST, e.to_string()));
        connected.map_err(unreachable)
    }

    /// Runs a script. A connection that was kept and is dead is no reason to fail; what may have been done is not
    /// done again.
    fn run<T: FromRedisValue>(&self, script: &str, keys: &[&str], args: &[&[u8]]) -> Result<T> {
        let kept = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let alive = kept.and_then(|mut connection| {
            let pong: RedisResult<String> = cmd("PING").query(&mut connection);
            pong.is_ok().then_some(connection)
        });
        let mut connection = match alive {
            Some(connection) => connection,
            None => self.connect()?,
        };
        let mut command = cmd("EVAL");
        command.arg(script).arg(keys.len());
        for key in keys {
            command.arg(*key);
        }
        for arg in args {
            command.arg(*arg);
        }
        let said: T = command.query(&mut connection).map_err(unreachable)?;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MOST_KEPT {
            idle.push(connection);
        }
        Ok(said)
    }
}

/// The keys of an owner's conversation: head, messages, the owner's set.
fn keys(owner: &str, id: &str) -> [String; 3] {
    let tag = format!("oprel:{{owner-{owner}}}");
    [format!("{tag}:head:{id}"), format!("{tag}:items:{id}"), format!("{tag}:all")]
}

/// A head of its numbers, as Redis says them.
fn head(id: &str, numbers: &[Vec<u8>]) -> Result<Head> {
    let number = |at: usize| -> Result<u64> {
        let text = numbers.get(at).map(|n| String::from_utf8_lossy(n)).unwrap_or_default();
        text.parse().map_err(|_| unreachable("a conversation in Redis is malformed"))
    };
    let (version, bytes, created, updated) = (number(0)?, number(1)?, number(2)?, number(3)?);
    Ok(Head { id: id.into(), version, bytes, created, updated })
}

impl Store for Shared {
    fn append(&self, owner: &str, id: &str, version: u64, items: &[Item]) -> Result<Head> {
        let now = unix_s();
        let Bounds { messages, bytes, lasts } = self.bounds;
        let numbers = [version, now, messages, bytes, lasts.as_secs()].map(|n| n.to_string());
        let items: Vec<Vec<u8>> =
            items.iter().map(serde_json::to_vec).collect::<Result<_, _>>().map_err(unreachable)?;
        let mut args: Vec<&[u8]> = numbers.iter().map(|n| n.as_bytes()).collect();
        args.push(id.as_bytes());
        args.extend(items.iter().map(Vec::as_slice));
        let [a, b, c] = keys(owner, id);
        let (word, version, bytes, created): (String, u64, u64, u64) =
            self.run(APPEND, &[&a, &b, &c], &args)?;
        match word.as_str() {
            "done" => Ok(Head { id: id.into(), version, bytes, created, updated: now }),
            "conflict" => Err(Error::Conflict { id: id.into(), version }),
            _ => Err(Error::Full { id: id.into() }),
        }
    }

    fn get(&self, owner: &str, id: &str) -> Result<Option<(Head, Vec<Item>)>> {
        let [a, b, _] = keys(owner, id);
        let all: Vec<Vec<u8>> = self.run(GET, &[&a, &b], &[])?;
        let Some((numbers, items)) = all.split_at_checked(4) else { return Ok(None) };
        let items = items.iter().map(|bytes| serde_json::from_slice(bytes));
        Ok(Some((head(id, numbers)?, items.collect::<Result<_, _>>().map_err(unreachable)?)))
    }

    fn list(&self, owner: &str, after: &str, most: usize) -> Result<Vec<Head>> {
        let [beginning, _, all] = keys(owner, "");
        let most = most.to_string();
        let args = [after.as_bytes(), most.as_bytes()];
        let found: Vec<Vec<u8>> = self.run(LIST, &[&all, &beginning], &args)?;
        let heads = found.chunks_exact(5);
        heads.map(|one| head(&String::from_utf8_lossy(&one[0]), &one[1..])).collect()
    }

    fn delete(&self, owner: &str, id: &str) -> Result<bool> {
        let [a, b, c] = keys(owner, id);
        self.run(DELETE, &[&a, &b, &c], &[id.as_bytes()])
    }

    /// Redis does that itself.
    fn expire(&self) -> Result<usize> {
        Ok(0)
    }
}
