"""Shell of time: Airflow DAGs, each a timetable over commands of the rooms. Imports nothing of ours."""
