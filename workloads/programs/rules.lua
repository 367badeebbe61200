-- SPDX-License-Identifier: Apache-2.0
-- A rules engine (Lua), such as a router or a home automation box has: events come in, are looked up
-- in routes and signatures, and compiled rules decide what becomes of them.
--
-- What all instances hold alike: the texts of routes, signatures and rules, and what is compiled from
-- them. What each holds for itself: flows, counters, its journal. Runs for ever, one round a second.
-- From the environment: KSMHOST_SEED, KSMHOST_INDEX (which instance this is),
-- KSMHOST_ROUNDS (end after so many).

local ROUTES, SIGNATURES, RULES = 2000, 6000, 200
local FLOWS, JOURNAL, EVENTS_A_ROUND = 3000, 2000, 40

local function number(name, default)
    return tonumber(os.getenv(name) or "") or default
end

local seed, index = number("KSMHOST_SEED", 1), number("KSMHOST_INDEX", 0)
local rounds = number("KSMHOST_ROUNDS", 0)

-- Deterministic on every architecture, unlike math.random across versions of Lua.
local state = seed
local function random(limit)
    state = (state * 6364136223846793005 + 1442695040888963407) & 0x7fffffffffffffff
    return (state >> 24) % limit
end

local function address()
    return string.format("10.%d.%d.%d", random(64), random(256), random(256))
end

-- The files such a service reads whole when it starts.
local function routes_text()
    local lines = {}
    for n = 1, ROUTES do
        lines[n] = string.format("%s via 192.168.%d.%d dev wan%d metric %d table %d",
            address(), random(256), random(256), random(4), random(500), random(16))
    end
    return table.concat(lines, "\n")
end

local function signatures_text()
    local lines = {}
    for n = 1, SIGNATURES do
        lines[n] = string.format("%06d;%08x%08x%08x;class=%d;action=%s", n, random(1 << 32),
            random(1 << 32), random(1 << 32), random(32), random(2) == 0 and "drop" or "log")
    end
    return table.concat(lines, "\n")
end

local function rule_text(n)
    return string.format([[
local event, flow = ...
if event.port > %d and event.bytes > %d then
  flow.score = flow.score + %d
  if flow.score > %d then return "limit", %d end
end
return nil, %d]], random(65536), random(1400), random(9) + 1, random(400) + 50, random(1000), n)
end

local function parse_routes(text)
    local routes = {}
    for target, gateway, device, metric in
        text:gmatch("(%S+) via (%S+) dev (%S+) metric (%d+)") do
        routes[target] = { gateway = gateway, device = device, metric = tonumber(metric) }
    end
    return routes
end

local common = { routes_text = routes_text(), signatures = signatures_text(), rules = {} }
common.routes = parse_routes(common.routes_text)
for n = 1, RULES do
    common.rules[n] = assert(load(rule_text(n), "=rule" .. n))
end

-- From here on every instance goes its own way.
state = seed * 1000 + index + 1
local own = { flows = {}, journal = {}, events = 0, limited = 0, known = 0 }
for n = 1, FLOWS do
    own.flows[n] = { peer = address(), score = random(40), bytes = 0 }
end

local function note(text)
    own.journal[own.events % JOURNAL + 1] = text
end

local function handle(event)
    local flow = own.flows[event.flow]
    flow.bytes = flow.bytes + event.bytes
    own.events = own.events + 1
    if common.signatures:find(event.mark, 1, true) then
        own.known = own.known + 1
        note("signature " .. event.mark .. " from " .. flow.peer)
    end
    local verdict, by = common.rules[event.port % RULES + 1](event, flow)
    if verdict then
        own.limited = own.limited + 1
        flow.score = 0
        note(string.format("event %d: %s by rule %d for %s", own.events, verdict, by, flow.peer))
    end
end

-- Lua has no sleep: a small shell beats the time, and ends with the pipe.
local clock = io.popen("while echo; do sleep 1; done", "r")
local round = 0
while (rounds == 0 or round < rounds) and clock:read("l") do
    for _ = 1, EVENTS_A_ROUND do
        handle({
            flow = random(FLOWS) + 1,
            port = random(65536),
            bytes = random(1500),
            mark = random(8) == 0 and string.format("%06d", random(SIGNATURES * 2)) or "-none-",
        })
    end
    round = round + 1
end
print(#common.routes_text, #common.signatures, own.events, own.known, own.limited)
