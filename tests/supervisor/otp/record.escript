#!/usr/bin/env escript
%%! -noshell
%% Runs every scenario of scenarios.txt (the language is described there) on Erlang/OTP's own
%% supervisor and prints what happened, in the form of traces.txt:
%%
%%     escript record.escript scenarios.txt > traces.txt
%%
%% A settling pause follows each step, since OTP gives no order between a child's exit signal
%% to its supervisor and another process's next request.
-module(record).
-mode(compile).
-export([main/1, start_it/2, start_super/3, init/1]).

-define(SETTLE_MS, 15).

main([File]) ->
    logger:set_primary_config(level, none),
    process_flag(trap_exit, true),
    {ok, Bin} = file:read_file(File),
    Lines = [string:trim(L, trailing) || L <- string:split(binary_to_list(Bin), "\n", all)],
    io:format("# Erlang/OTP ~s, stdlib ~s~n", [erlang:system_info(otp_release), stdlib()]),
    run([L || L <- Lines, L =/= "", hd(L) =/= $#]).

stdlib() ->
    application:load(stdlib),
    {ok, V} = application:get_key(stdlib, vsn),
    V.

run([]) -> ok;
run(["== " ++ Name | Rest]) ->
    {Steps, More} = lists:splitwith(fun(L) -> not lists:prefix("== ", L) end, Rest),
    io:format("== ~s~n", [Name]),
    ets:new(world, [named_table, public, ordered_set]),
    Logger = spawn_link(fun() -> logger_loop([]) end),
    ets:insert(world, {logger, Logger}),
    ets:insert(world, {supers, #{}}),
    Sup = lists:foldl(fun step/2, undefined, Steps),
    case is_pid(Sup) andalso is_process_alive(Sup) of
        true -> unlink(Sup), exit(Sup, kill), timer:sleep(?SETTLE_MS);
        false -> ok
    end,
    [catch exit(P, kill) || [P] <- ets:match(world, {{pid, '$1'}, '_'})],
    timer:sleep(2),
    unlink(Logger), exit(Logger, kill),
    ets:delete(world),
    run(More).

%% ---- Steps ----

step(Line, Sup) ->
    case string:split(Line, " while ") of
        [First, Second] -> report(Line, overlap(string:lexemes(First, " "), string:lexemes(Second, " "), Sup), Sup);
        [_] -> single(Line, Sup)
    end.

single(Line, Sup) ->
    case string:lexemes(Line, " ") of
        ["sup" | Opts] -> define(root, Opts), Sup;
        ["child" | Opts] -> define_child(root, Opts), Sup;
        ["@" ++ Owner, "child" | Opts] -> define_child(list_to_atom(Owner), Opts), Sup;
        ["@" ++ Owner, "sup" | Opts] -> define(list_to_atom(Owner), Opts), Sup;
        ["@" ++ Owner | Op] -> {Out, S} = op(Op, current(list_to_atom(Owner)), Sup), report(Line, Out, S);
        Op -> {Out, S} = op(Op, Sup, Sup), report(Line, Out, S)
    end.

report(Line, Out, Sup) ->
    timer:sleep(?SETTLE_MS),
    io:format("~s -> ~s~n", [Line, Out]),
    [io:format("  ~s~n", [L]) || L <- taken()],
    case Sup of
        undefined -> undefined;
        _ ->
            receive {'EXIT', Sup, Reason} -> io:format("  sup ended ~s~n", [reason(Reason)]), ended
            after 0 -> Sup
            end
    end.

op(["start"], _, _) ->
    {Flags, Specs} = tree(root),
    case supervisor:start_link(?MODULE, {Flags, Specs}) of
        {ok, Pid} -> {"ok", Pid};
        {error, {shutdown, {failed_to_start_child, Id, R}}} ->
            drop_exit(), {io_lib:format("failed ~s ~s", [Id, reason(R)]), undefined};
        {error, _} -> drop_exit(), {"invalid", undefined}
    end;
op(["exit", Id, Reason], _, Root) ->
    Pid = current(list_to_atom(Id)),
    Ref = monitor(process, Pid),
    Pid ! {leave, exit_reason(Reason)},
    receive {'DOWN', Ref, process, Pid, _} -> ok end,
    {"ok", Root};
op(["kill", Id], _, Root) -> exit(current(list_to_atom(Id)), kill), {"ok", Root};
op(["advance", Seconds], _, Root) ->
    timer:sleep(round(1000 * to_number(Seconds))), {"ok", Root};
op(["stop"], _, Root) ->
    Ref = monitor(process, Root),
    exit(Root, shutdown),
    receive {'DOWN', Ref, process, Root, _} -> ok end,
    {"ok", Root};
op(_, ended, Root) -> {"noproc", Root};
op(Op, Sup, Root) ->
    try {request(Op, Sup), Root}
    catch
        exit:{noproc, _} -> {"noproc", Root};
        exit:{shutdown, {gen_server, call, _}} -> {"down shutdown", Root}
    end.

request(["start_child" | Opts], Sup) ->
    case supervisor:start_child(Sup, spec(Opts)) of
        {ok, Child} -> who(Child);
        {error, already_present} -> "already_present";
        {error, {already_started, Child}} -> ["already_started ", who(Child)];
        {error, {R, Child}} when is_tuple(Child), element(1, Child) =:= child -> ["failed ", reason(R)];
        {error, _} -> "invalid"
    end;
request(["terminate", Id], Sup) -> answer(supervisor:terminate_child(Sup, list_to_atom(Id)));
request(["restart", Id], Sup) -> answer(supervisor:restart_child(Sup, list_to_atom(Id)));
request(["delete", Id], Sup) -> answer(supervisor:delete_child(Sup, list_to_atom(Id)));
request(["which"], Sup) ->
    lists:join(" ", [[atom_to_list(Id), "=", who(P)] || {Id, P, _, _} <- supervisor:which_children(Sup)]);
request(["count"], Sup) ->
    L = supervisor:count_children(Sup),
    io_lib:format("specs=~p active=~p supervisors=~p workers=~p",
                  [proplists:get_value(K, L) || K <- [specs, active, supervisors, workers]]);
request(["spec", Id], Sup) ->
    case supervisor:get_childspec(Sup, list_to_atom(Id)) of
        {error, not_found} -> "not_found";
        {ok, #{restart := R, shutdown := S, type := T} = M} ->
            io_lib:format("~p ~s ~p ~p", [R, shutdown(S), T, maps:get(significant, M, false)])
    end.

shutdown(S) when is_integer(S) -> io_lib:format("~.1f", [S / 1000]);
shutdown(S) -> atom_to_list(S).

answer(ok) -> "ok";
answer({ok, Child}) -> who(Child);
answer({error, A}) when A =:= not_found; A =:= running; A =:= restarting -> atom_to_list(A);
answer({error, R}) -> ["failed ", reason(R)].

%% ---- Two at once: the second while a child keeps the supervisor waiting in the first ----

overlap(First, Second, Root) ->
    ets:insert(world, {hold, true}),
    One = begin_op(First, Root),
    wait_held(),
    Two = begin_op(Second, Root),
    timer:sleep(?SETTLE_MS),
    ets:insert(world, {hold, false}),
    [P ! release || [P] <- ets:match(world, {{held, '$1'}})],
    ets:match_delete(world, {{held, '_'}}),
    [said(One), ", ", said(Two)].

%% A supervisor heeds only its parent's request to end, so that one is made here.
begin_op(["stop"], Root) ->
    Ref = monitor(process, Root),
    exit(Root, shutdown),
    {ended, Ref};
begin_op(Op, Root) ->
    {Main, Ref} = {self(), make_ref()},
    spawn(fun() -> {Out, _} = op(Op, Root, Root), Main ! {Ref, Out} end),
    {said, Ref}.

said({ended, Ref}) -> receive {'DOWN', Ref, process, _, _} -> "ok" end;
said({said, Ref}) -> receive {Ref, Out} -> Out end.

wait_held() ->
    case ets:match(world, {{held, '$1'}}) of
        [] -> timer:sleep(1), wait_held();
        _ -> ok
    end.

held(Name) ->
    case ets:lookup(world, hold) of
        [{hold, true}] -> log(["slow ", Name]), ets:insert(world, {{held, self()}}), receive release -> ok end;
        _ -> ok
    end.

who(P) when is_pid(P) ->
    case ets:lookup(world, {pid, P}) of [{_, N}] -> N; [] -> "?" end;
who({restarting, _}) -> "restarting";
who(A) -> atom_to_list(A).

exit_reason("normal") -> normal;
exit_reason("shutdown") -> shutdown;
exit_reason("shutdown_term") -> {shutdown, term};
exit_reason("crash") -> crash.

reason(normal) -> "normal";
reason(shutdown) -> "shutdown";
reason(killed) -> "killed";
reason({shutdown, {failed_to_start_child, Id, R}}) -> io_lib:format("shutdown(~s ~s)", [Id, reason(R)]);
reason({shutdown, _}) -> "shutdown_term";
reason(_) -> "crash".

drop_exit() -> receive {'EXIT', _, _} -> ok after 50 -> ok end.

current(Id) ->
    case ets:lookup(world, {current, Id}) of [{_, P}] -> P; [] -> undefined end.

%% ---- Definitions ----

define(Owner, Opts) ->
    [{supers, M}] = ets:lookup(world, supers),
    ets:insert(world, {supers, M#{Owner => {flags(Opts), []}}}).

define_child(Owner, Opts) ->
    [{supers, M}] = ets:lookup(world, supers),
    {Flags, Specs} = maps:get(Owner, M),
    ets:insert(world, {supers, M#{Owner => {Flags, Specs ++ [spec(Opts)]}}}).

tree(Owner) ->
    [{supers, M}] = ets:lookup(world, supers),
    maps:get(Owner, M).

flags(Opts) ->
    lists:foldl(fun(O, F) ->
        case string:split(O, "=") of
            ["intensity", N] -> F#{intensity => to_number(N)};
            ["period", N] -> F#{period => to_number(N)};
            ["auto", A] -> F#{auto_shutdown => list_to_atom(A)}
        end
    end, #{strategy => one_for_one, intensity => 1, period => 5}, Opts).

spec([Id, Restart | Opts]) ->
    A = list_to_atom(Id),
    {Spec, Behaviour} = lists:foldl(fun option/2, {#{}, #{init => ["ok"]}}, Opts),
    ets:insert(world, {{behaviour, A}, Behaviour}),
    Start = case maps:get(type, Spec, worker) of
        supervisor -> {?MODULE, start_super, [A, maps:get(init, Behaviour), Behaviour]};
        worker -> {?MODULE, start_it, [A, Behaviour]}
    end,
    Spec#{id => A, restart => list_to_atom(Restart), start => Start}.

option("significant", {S, B}) -> {S#{significant => true}, B};
option("supervisor", {S, B}) -> {S#{type => supervisor}, B};
option("stubborn", {S, B}) -> {S, B#{stubborn => true}};
option("slow", {S, B}) -> {S, B#{slow => true}};
option("silent", {S, B}) -> {S, B#{silent => true}};
option("crash_on_stop", {S, B}) -> {S, B#{crash_on_stop => true}};
option("shutdown=brutal_kill", {S, B}) -> {S#{shutdown => brutal_kill}, B};
option("shutdown=infinity", {S, B}) -> {S#{shutdown => infinity}, B};
option("shutdown=" ++ N, {S, B}) -> {S#{shutdown => round(1000 * to_number(N))}, B};
option("init=" ++ L, {S, B}) -> {S, B#{init => string:split(L, ",", all)}}.

to_number(S) ->
    case string:to_float(S) of
        {error, _} -> list_to_integer(S);
        {F, _} -> F
    end.

%% ---- Children ----

turn(Id) -> ets:update_counter(world, {count, Id}, 1, {{count, Id}, 0}).

outcome(Id, N, List) ->
    O = lists:nth(min(N, length(List)), List),
    {O, io_lib:format("~s#~p", [Id, N])}.

start_it(Id, #{init := List} = B) ->
    N = turn(Id),
    {Outcome, Name} = outcome(Id, N, List),
    case Outcome of
        "slow" -> held(Name), up(Id, Name, B);
        "slow_fail" -> held(Name), log(["fail ", Name]), {error, failed};
        "ok" -> up(Id, Name, B);
        "spin" -> {error, spin};
        "ignore" -> log(["ignore ", Name]), ignore;
        "fail" -> log(["fail ", Name]), {error, failed};
        "fail_" ++ Reason -> log(["fail ", Name]), {error, exit_reason(Reason)}
    end.

up(Id, Name, B) ->
    log(["init ", Name]),
    {Starter, Traps} = {self(), not is_map_key(silent, B)},
    Pid = spawn_link(fun() -> process_flag(trap_exit, Traps), Starter ! {self(), ready}, child(Name, B) end),
    receive {Pid, ready} -> {ok, register_child(Id, Name, Pid)} end.

start_super(Id, List, _) ->
    N = turn(Id),
    {_, Name} = outcome(Id, N, List),
    case supervisor:start_link(?MODULE, tree(Id)) of
        {ok, Pid} -> log(["init ", Name]), {ok, register_child(Id, Name, Pid)};
        Error -> log(["fail ", Name]), Error
    end.

register_child(Id, Name, Pid) ->
    ets:insert(world, [{{pid, Pid}, lists:flatten(Name)}, {{current, Id}, Pid}]),
    Pid.

child(Name, B) ->
    receive
        {leave, Reason} -> log(["end ", Name, " ", reason(Reason)]), exit(Reason);
        {'EXIT', _, _} when is_map_key(stubborn, B) -> log(["deaf ", Name]), receive never -> ok end;
        {'EXIT', _, _} when is_map_key(crash_on_stop, B) -> log(["end ", Name, " crash"]), exit(crash);
        {'EXIT', _, Reason} when is_map_key(slow, B) -> held(Name), log(["end ", Name, " ", reason(Reason)]), exit(Reason);
        {'EXIT', _, Reason} -> log(["end ", Name, " ", reason(Reason)]), exit(Reason)
    end.

init(Tree) -> {ok, Tree}.

%% ---- The log: every line is confirmed, so the lines have one order ----

log(Text) ->
    [{logger, L}] = ets:lookup(world, logger),
    Ref = make_ref(),
    L ! {log, self(), Ref, lists:flatten(Text)},
    receive {Ref, ok} -> ok end.

taken() ->
    [{logger, L}] = ets:lookup(world, logger),
    Ref = make_ref(),
    L ! {take, self(), Ref},
    receive {Ref, Lines} -> Lines end.

logger_loop(Lines) ->
    receive
        {log, From, Ref, Text} -> From ! {Ref, ok}, logger_loop([Text | Lines]);
        {take, From, Ref} -> From ! {Ref, lists:reverse(Lines)}, logger_loop([])
    end.
